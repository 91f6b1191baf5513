"""The model in TensorFlow, its training loop a graph: ``python -m benchmarks.peers.tensorflow``."""

# Installed in an environment of their own, where type checkers do not look.
# pyright: reportMissingModuleSource=false, reportMissingImports=false

import math
import time
from collections.abc import Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from benchmarks import problem
from benchmarks.contender import serve


class Layer(tf.Module):
    """One GP layer with random Fourier features, q(Omega) and q(W)."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        features = problem.FEATURES
        log_lengthscale = 0.5 * math.log(inputs)
        self.log_variance = tf.Variable(tf.zeros([]))
        self.log_lengthscale = tf.Variable(tf.fill([inputs], log_lengthscale))
        self.omega_mean = tf.Variable(tf.zeros([inputs, features]))
        self.omega_log_var = tf.Variable(tf.fill([inputs, features], -2 * log_lengthscale))
        self.weights_mean = tf.Variable(tf.zeros([2 * features, outputs]))
        self.weights_log_var = tf.Variable(tf.zeros([2 * features, outputs]))
        # A constant of every graph: a tensor would be an input, sent to remote workers each time.
        self.z = tf.random.normal([inputs, features]).numpy()

    def __call__(self, f: tf.Tensor, noise: tf.Tensor) -> tf.Tensor:
        omega = self.omega_mean + tf.exp(0.5 * self.omega_log_var) * self.z
        projection = f @ omega
        amplitude = tf.exp(0.5 * self.log_variance) / math.sqrt(problem.FEATURES)
        phi = amplitude * tf.concat([tf.cos(projection), tf.sin(projection)], axis=1)
        mean = phi @ self.weights_mean
        var = tf.square(phi) @ tf.exp(self.weights_log_var)
        return mean + tf.sqrt(var) * noise

    def divergence(self) -> tf.Tensor:
        mean, log_var = self.weights_mean, self.weights_log_var
        weights = 0.5 * tf.reduce_sum(tf.exp(log_var) + mean**2 - log_var - 1)
        mean, log_var = self.omega_mean, self.omega_log_var
        log_precision = 2 * self.log_lengthscale[:, None]
        relative = tf.exp(log_precision) * (tf.exp(log_var) + mean**2)
        return weights + 0.5 * tf.reduce_sum(relative - log_var - log_precision - 1)


class DeepGP(tf.Module):
    """The negative ELBO of the training set, as a function of a mini-batch and noise."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = [Layer(*sizes) for sizes in problem.LAYERS]

    def __call__(self, x: tf.Tensor, y: tf.Tensor, noise: list[tf.Tensor]) -> tf.Tensor:
        f = x
        for layer, layer_noise in zip(self.layers, noise, strict=True):
            f = layer(f, layer_noise)
        cross_entropy = tf.nn.sparse_softmax_cross_entropy_with_logits(labels=y, logits=f)
        divergence = tf.add_n([layer.divergence() for layer in self.layers])
        return divergence + problem.EXAMPLES * tf.reduce_mean(cross_entropy)


class Adam(tf.Module):
    """Adam by TensorFlow's own fused kernel: one operation per variable.

    Keras 3 spells Adam out in elementwise operations, which takes longer.
    """

    def __init__(self, variables: Sequence[tf.Variable]) -> None:
        super().__init__()
        self._variables = variables
        self._moments = [(tf.Variable(tf.zeros_like(v)), tf.Variable(tf.zeros_like(v)))
                         for v in variables]  # fmt: skip
        self._beta1_power, self._beta2_power = (
            tf.Variable(tf.constant(0.9)),
            tf.Variable(tf.constant(0.999)),
        )

    def apply(self, gradients: Sequence[Any]) -> None:
        beta1_power, beta2_power = self._beta1_power.read_value(), self._beta2_power.read_value()
        for variable, (m, v), gradient in zip(
            self._variables, self._moments, gradients, strict=True
        ):
            tf.raw_ops.ResourceApplyAdam(
                var=variable.handle, m=m.handle, v=v.handle, grad=gradient,
                beta1_power=beta1_power, beta2_power=beta2_power,
                lr=problem.LEARNING_RATE, beta1=0.9, beta2=0.999, epsilon=1e-8,
            )  # fmt: skip
        self._beta1_power.assign(beta1_power * 0.9)
        self._beta2_power.assign(beta2_power * 0.999)


class TensorFlow:
    """Trains with fused Adam in one graph, the data resident as float32."""

    def __init__(self) -> None:
        tf.random.set_seed(0)
        self._model = DeepGP()
        self._variables = self._model.trainable_variables
        self._adam = Adam(self._variables)
        x, y = problem.synthetic_images()
        self._x, self._y = tf.constant(problem.unit_interval(x)), tf.constant(y)
        self._steps = tf.function(self._many_steps)

    def _many_steps(self, steps: tf.Tensor, batch: int) -> None:
        for _ in tf.range(steps):
            self._one_step(batch)

    def _one_step(self, batch: int) -> None:
        index = tf.random.uniform([batch], maxval=problem.EXAMPLES, dtype=tf.int32)
        noise = [tf.random.normal([batch, outputs]) for _, outputs in problem.LAYERS]
        with tf.GradientTape() as tape:
            loss = self._model(tf.gather(self._x, index), tf.gather(self._y, index), noise)
        self._adam.apply(tape.gradient(loss, self._variables))

    def describe(self) -> dict[str, str]:
        threads = tf.config.threading.get_intra_op_parallelism_threads()
        return {"tensorflow": tf.__version__, "threads": str(threads or "all")}

    def prepare(self, batch: int) -> None:
        self.run(20, batch)

    def run(self, steps: int, batch: int) -> float:
        before = time.perf_counter()
        self._steps(tf.constant(steps), batch)
        return time.perf_counter() - before

    def loss(self, case: str) -> tuple[float, float]:
        arrays = dict(np.load(case))
        model = DeepGP()
        for number, layer in enumerate(model.layers):
            for name in ("log_variance", "log_lengthscale", "omega_mean", "omega_log_var",
                         "weights_mean", "weights_log_var"):  # fmt: skip
                getattr(layer, name).assign(arrays[f"layer_{number}/{name}"])
            layer.z = arrays[f"layer_{number}/z"]
        noise = [tf.constant(arrays[f"noise_{layer}"]) for layer in range(len(model.layers))]
        with tf.GradientTape() as tape:
            loss = model(tf.constant(arrays["x"]), tf.constant(arrays["y"]), noise)
        gradients = tape.gradient(loss, model.trainable_variables)
        return float(loss), float(tf.linalg.global_norm(gradients))


if __name__ == "__main__":
    serve(TensorFlow())
