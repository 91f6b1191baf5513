"""The model in PyTorch: ``python -m benchmarks.peers.pytorch eager|compiled``."""

# Installed in an environment of its own, where type checkers do not look.
# pyright: reportMissingImports=false

import math
import sys
import time
from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor, nn

from benchmarks import problem
from benchmarks.contender import serve


class Layer(nn.Module):
    """One GP layer with random Fourier features, q(Omega) and q(W)."""

    z: Tensor

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        features = problem.FEATURES
        log_lengthscale = 0.5 * math.log(inputs)
        self.log_variance = nn.Parameter(torch.zeros(()))
        self.log_lengthscale = nn.Parameter(torch.full((inputs,), log_lengthscale))
        self.omega_mean = nn.Parameter(torch.zeros(inputs, features))
        self.omega_log_var = nn.Parameter(torch.full((inputs, features), -2 * log_lengthscale))
        self.weights_mean = nn.Parameter(torch.zeros(2 * features, outputs))
        self.weights_log_var = nn.Parameter(torch.zeros(2 * features, outputs))
        self.register_buffer("z", torch.randn(inputs, features))

    def forward(self, f: Tensor, noise: Tensor) -> Tensor:
        omega = self.omega_mean + torch.exp(0.5 * self.omega_log_var) * self.z
        projection = f @ omega
        amplitude = torch.exp(0.5 * self.log_variance) / math.sqrt(problem.FEATURES)
        phi = amplitude * torch.cat([torch.cos(projection), torch.sin(projection)], dim=1)
        mean = phi @ self.weights_mean
        var = (phi * phi) @ torch.exp(self.weights_log_var)
        return mean + torch.sqrt(var) * noise

    def divergence(self) -> Tensor:
        mean, log_var = self.weights_mean, self.weights_log_var
        weights = 0.5 * (torch.exp(log_var) + mean**2 - log_var - 1).sum()
        mean, log_var = self.omega_mean, self.omega_log_var
        log_precision = 2 * self.log_lengthscale[:, None]
        relative = torch.exp(log_precision) * (torch.exp(log_var) + mean**2)
        return weights + 0.5 * (relative - log_var - log_precision - 1).sum()


class DeepGP(nn.Module):
    """The negative ELBO of the training set, as a function of a mini-batch and noise."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.ModuleList(Layer(*sizes) for sizes in problem.LAYERS)

    def forward(self, x: Tensor, y: Tensor, noise: list[Tensor]) -> Tensor:
        f = x
        for layer, layer_noise in zip(self.layers, noise, strict=True):
            f = layer(f, layer_noise)
        neg_log_likelihood = nn.functional.cross_entropy(f, y)
        divergence = sum(layer.divergence() for layer in self.layers)
        return divergence + problem.EXAMPLES * neg_log_likelihood


class PyTorch:
    """Trains with fused Adam, the data resident as float32."""

    def __init__(self, mode: str) -> None:
        torch.manual_seed(0)
        self._mode = mode
        self._model = DeepGP()
        self._objective = self._compiled(self._model)
        self._optimizer = torch.optim.Adam(
            self._model.parameters(), lr=problem.LEARNING_RATE, fused=True
        )
        x, y = problem.synthetic_images()
        self._x = torch.from_numpy(problem.unit_interval(x))
        self._y = torch.from_numpy(y.astype(np.int64))

    def _compiled(self, model: DeepGP) -> Callable[..., Tensor]:
        return torch.compile(model, dynamic=False) if self._mode == "compiled" else model

    def describe(self) -> dict[str, str]:
        return {"torch": torch.__version__, "threads": str(torch.get_num_threads())}

    def prepare(self, batch: int) -> None:
        self.run(20, batch)

    def run(self, steps: int, batch: int) -> float:
        before = time.perf_counter()
        for _ in range(steps):
            index = torch.randint(len(self._x), (batch,))
            noise = [torch.randn(batch, outputs) for _, outputs in problem.LAYERS]
            loss = self._objective(
                self._x.index_select(0, index), self._y.index_select(0, index), noise
            )
            self._optimizer.zero_grad()
            loss.backward()
            self._optimizer.step()
        return time.perf_counter() - before

    def loss(self, case: str) -> tuple[float, float]:
        arrays = {name: torch.from_numpy(array) for name, array in np.load(case).items()}
        model = DeepGP()
        model.load_state_dict(
            {f"layers.{name[6:].replace('/', '.')}": value
             for name, value in arrays.items() if name.startswith("layer_")}
        )  # fmt: skip
        noise = [arrays[f"noise_{layer}"] for layer in range(len(problem.LAYERS))]
        loss = self._compiled(model)(arrays["x"], arrays["y"].long(), noise)
        loss.backward()
        gradients = [p.grad for p in model.parameters() if p.grad is not None]
        norm = torch.sqrt(sum((g.double() ** 2).sum() for g in gradients))
        return loss.item(), norm.item()


if __name__ == "__main__":
    serve(PyTorch(sys.argv[1]))
