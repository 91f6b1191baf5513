"""Runs that share their programs are the runs that they would be alone."""

from functools import partial
from typing import Any

import jax
import numpy as np
import pytest

from distvi.config.resolve import resolve
from distvi.config.run import RunConfig
from distvi.system.programs import SharedPrograms, Varying
from distvi.training.prepare import prepare

UPDATES = 12
SMALL = {"hidden_layers": 1, "width": 3, "features": 8}


def config(engine: dict[str, Any], seed: int, rate: float, **more: Any) -> RunConfig:
    training = {"updates": UPDATES, "batch_size": 16, "seed": seed, "learning_rate": rate}
    return resolve("digits", settings=training | engine | {"model": SMALL} | more)


ENGINES: dict[str, dict[str, Any]] = {
    "async": {"engine": "simulated", "workers": 3, "scheme": "async"},
    "sync on 2 servers": {"engine": "simulated", "workers": 3, "servers": 2, "scheme": "sync"},
    "top-k": {"engine": "simulated", "workers": 2, "rules": ["top-k", "delay-compensation"]},
    "pvi": {"engine": "simulated", "workers": 2, "rules": ["pvi"], "rule_options": {"steps": 2}},
    "server-divergence": {"engine": "simulated", "workers": 2, "rules": ["server-divergence"]},
    "mesh": {"engine": "mesh"},
}
# Of ELBOs, and of parameters. Where a slope is nothing but rounding, as that of Omega's variance at
# first, Adam moves as far as anywhere; and pvi adds up terms that cancel there.
ROUNDING = {"pvi": (1e-5, 1e-2)}


@pytest.mark.parametrize("name", ENGINES)
@pytest.mark.parametrize(("kernel", "is_run"), [("rbf", True), ("matern32", False)])
def test_a_sibling_is_the_run_it_would_be_alone(name: str, kernel: str, is_run: bool) -> None:
    settings = ENGINES[name] | {"schedule": "cosine", "warmup_updates": 3}
    settings |= {"model": SMALL | {"kernel": kernel}}
    first = prepare(config(settings, 0, 0.01)).sharing()
    if is_run:
        with first.engine() as engine:
            engine.advance(UPDATES)
    for seed, rate in ((1, 0.03), (2, 0.001), (0, 0.01)):
        plan = first.sibling(seed=seed, learning_rate=rate)
        alone = prepare(config(settings, seed, rate))
        assert plan.config == alone.config
        with plan.engine() as shared, alone.engine() as own:
            found, expected = shared.advance(UPDATES), own.advance(UPDATES)
            assert shared.now_s() == own.now_s() or name == "mesh"
            of_elbos, of_params = ROUNDING.get(name, (2e-6, 1e-5))
            np.testing.assert_allclose(found, expected, rtol=of_elbos)
            jax.tree.map(
                partial(np.testing.assert_allclose, rtol=1e-4, atol=of_params),
                shared.params,
                own.params,
            )


def test_siblings_compile_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    first = prepare(config(ENGINES["async"], 0, 0.01)).sharing()
    with first.engine() as engine:
        engine.advance(UPDATES)
    traced: list[str] = []
    jit = jax.jit

    def counting(function: Any, **options: Any) -> Any:
        traced.append(getattr(function, "__name__", "?"))
        return jit(function, **options)

    monkeypatch.setattr(jax, "jit", counting)
    with first.sibling(seed=5, learning_rate=0.02).engine() as engine:
        engine.advance(UPDATES)
    assert not traced


def test_a_program_takes_the_values_of_its_run() -> None:
    varying = Varying(np.float32(2.0))
    first = SharedPrograms.pool(varying)
    calls = []

    def times(x: Any) -> Any:
        calls.append("traced")
        return varying.values * x

    second = first.for_values(np.float32(5.0))
    assert float(first.jit("times", times)(3.0)) == 6.0
    assert float(second.jit("times", times)(3.0)) == 15.0
    assert float(first.compiled("now", times, [1.0])(4.0)) == 8.0
    assert float(second.compiled("now", times, [1.0])(4.0)) == 20.0
    assert calls == ["traced", "traced"]
    assert varying.values == 2.0
