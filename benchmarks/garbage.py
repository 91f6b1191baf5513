"""One worker in eight sends garbage: what means of contributions make of it.

    DISTVI_DATA=DIR python -m benchmarks.garbage [--epochs 2]

MNIST, one hidden layer, eight simulated workers in lockstep. Worker 0 sends its gradient with the
sign flipped, or 100 times too large and flipped, or as NaN. The plain mean's result stands beside
those of the robust ones, and that of a run without garbage above.
"""

import argparse
from typing import Any, Literal

import jax
import jax.numpy as jnp
from jaxtyping import Array

from benchmarks.sharpness import MODEL
from distvi.algorithms.base import Batches, Memory, Params, Work
from distvi.algorithms.draft import Draft
from distvi.algorithms.registry import register_rule
from distvi.config.resolve import resolve
from distvi.engines.base import Halted, Start
from distvi.evaluation import Evaluation
from distvi.system.settings import Settings
from distvi.training.prepare import prepare

WORKERS = 8
MEANS: dict[str, dict[str, Any]] = {
    "plain mean": {},
    "median": {"mean": "median"},
    "trimmed mean": {"mean": "trimmed"},
    "centred clipping": {"mean": "clipped"},
}
KINDS = ("none", "flipped", "flipped, times 100", "NaN")


class GarbageSettings(Settings):
    """A worker whose memory says so sends garbage."""

    garbage: Literal["none", "flipped", "flipped, times 100", "NaN"] = "none"
    """What it makes of its gradient."""


def wrap(settings: GarbageSettings, draft: Draft) -> Draft:
    """See `distvi.algorithms.registry`. Who is bad, the memories say that a run begins with."""
    factor = {"none": 1.0, "flipped": -1.0, "flipped, times 100": -100.0, "NaN": jnp.nan}
    rule = draft.worker

    def init(params: Params) -> Memory:
        return rule.init(params), jnp.zeros((), bool)

    def work(params: Params, memory: Memory, batches: Batches, key: Array) -> Work:
        inner, is_bad = memory
        payload, inner, neg_elbo = rule.work(params, inner, batches, key)
        scale = jnp.where(is_bad, factor[settings.garbage], 1.0)
        payload = jax.tree.map(lambda leaf: scale * leaf, payload)
        return Work(payload, (inner, is_bad), neg_elbo)

    return draft._replace(worker=rule._replace(init=init, work=work))


def error_with(kind: str, mean: str, epochs: float) -> str:
    """Test error of a run, or how it ended."""
    robust = MEANS[mean]
    settings = {
        "model": MODEL,
        "epochs": epochs,
        "learning_rate": 0.02,
        "scheme": "sync",
        "engine": "simulated",
        "workers": WORKERS,
        "placement": "greedy",
        "rules": ["garbage", *(["robust-mean"] if robust else [])],
        "rule_options": {"garbage": kind, **robust},
    }
    plan = prepare(resolve("mnist", settings=settings))
    bad = ((), jnp.ones((), bool))
    try:
        with plan.engine(Start(plan.initial_params, memories=(bad,))) as engine:
            engine.advance(plan.updates)
            params = engine.params
    except Halted as error:
        return f"ends: {str(error).splitlines()[0][:40]}"
    predictor = plan.predictor(20)
    assert predictor is not None
    dataset = plan.dataset
    found = Evaluation(predictor, params, dataset.test, dataset.targets[0])
    return f"{100 * found.metrics['error_rate']:.2f} %"


def main() -> None:
    """Train, print."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--epochs", type=float, default=2.0)
    epochs = parser.parse_args().epochs
    register_rule("garbage", GarbageSettings)
    print(f"Test error, {WORKERS} workers in lockstep, one of them bad, {epochs:g} epochs")
    print(f"{'':<22}" + "".join(f"{mean:>22}" for mean in MEANS))
    for kind in KINDS:
        cells = "".join(f"{error_with(kind, mean, epochs):>22}" for mean in MEANS)
        print(f"{kind:<22}{cells}", flush=True)


if __name__ == "__main__":
    main()
