"""Predictions of GPyTorch's deep GP: ``python -m benchmarks.peers.gpytorch HIDDEN_LAYERS SAMPLES``.

Doubly stochastic variational inference with 100 inducing points a GP, as many GPs a layer as the
model of `benchmarks.problem`, float32. Its first layer is computed once for all samples, as ours.
"""

# Installed in an environment of its own, where type checkers do not look.
# pyright: reportMissingImports=false, reportAttributeAccessIssue=false

import sys
import time
from itertools import pairwise

import gpytorch
import numpy as np
import torch
from gpytorch.models.deep_gps import DeepGP, DeepGPLayer
from torch import Tensor

from benchmarks import problem
from benchmarks.contender import serve

INDUCING = 100
ROWS_PER_CHUNK = 2500  # points times samples; of ten times as many it needs 12 GB


class Layer(DeepGPLayer):
    """A layer of independent sparse GPs."""

    def __init__(self, inputs: int, outputs: int) -> None:
        batch = torch.Size([outputs])
        q = gpytorch.variational.CholeskyVariationalDistribution(INDUCING, batch_shape=batch)
        points = torch.randn(outputs, INDUCING, inputs)
        strategy = gpytorch.variational.VariationalStrategy(self, points, q)
        super().__init__(strategy, inputs, outputs)
        self.mean_module = gpytorch.means.ConstantMean(batch_shape=batch)
        rbf = gpytorch.kernels.RBFKernel(batch_shape=batch, ard_num_dims=inputs)
        self.covar_module = gpytorch.kernels.ScaleKernel(rbf, batch_shape=batch)

    def forward(self, x: Tensor) -> gpytorch.distributions.MultivariateNormal:
        return gpytorch.distributions.MultivariateNormal(self.mean_module(x), self.covar_module(x))


class Network(DeepGP):
    """Layers on layers."""

    def __init__(self, hidden_layers: int) -> None:
        super().__init__()
        widths = [problem.INPUTS, *[problem.WIDTH] * hidden_layers, problem.CLASSES]
        sizes = pairwise(widths)
        self.layers = torch.nn.ModuleList(Layer(*each) for each in sizes)

    def forward(self, x: Tensor) -> gpytorch.distributions.Distribution:
        for layer in self.layers:
            x = layer(x)
        return x


class GPyTorch:
    """Class probabilities, a chunk of points at a time."""

    def __init__(self, hidden_layers: int, samples: int) -> None:
        torch.manual_seed(0)
        self._model, self._samples = Network(hidden_layers).eval(), samples
        self._x = torch.from_numpy(problem.unit_interval(problem.synthetic_images()[0][:10_000]))
        self._y = torch.from_numpy(problem.synthetic_images()[1][:10_000].astype(np.int64))

    def describe(self) -> dict[str, str]:
        threads = str(torch.get_num_threads())
        return {"gpytorch": gpytorch.__version__, "torch": torch.__version__, "threads": threads}

    def prepare(self, batch: int) -> None:
        self.run(1, min(batch, 50))

    def run(self, steps: int, batch: int) -> float:
        before, size = time.perf_counter(), max(1, ROWS_PER_CHUNK // self._samples)
        with torch.no_grad(), gpytorch.settings.num_likelihood_samples(self._samples):
            for _ in range(steps):
                for start in range(0, batch, size):
                    chunk = slice(start, min(start + size, batch))
                    f = self._model(self._x[chunk])
                    values = f.mean + f.variance.sqrt() * torch.randn(f.mean.shape)
                    log_p = values.log_softmax(-1)
                    log_p.exp().mean(0)
                    of_labels = log_p[:, torch.arange(log_p.shape[1]), self._y[chunk]]
                    of_labels.logsumexp(0)
        return time.perf_counter() - before


if __name__ == "__main__":
    serve(GPyTorch(int(sys.argv[1]), int(sys.argv[2])))
