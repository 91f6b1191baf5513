"""Models of one's own: an object with ``init`` and an ELBO, in the place of settings.

``distvi.train(model=...)`` takes any object with ``init(key)`` and either ``neg_elbo(params, batch,
key, n_data)`` or ``loss(params, batch, key)``; with ``predict(params, x, key, samples)`` it is
tested, too. See `distvi.models.base.Model` for what these are.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from jaxtyping import Array, Float
from pydantic import PositiveInt

from distvi.errors import InputError
from distvi.models.base import Batch, ModelSettings, Params
from distvi.system.names import OWN, ByName, CannotTravel, is_name
from distvi.system.travel import describe, revive

THE_MODEL = "the model"


class OwnModelSettings(ModelSettings):
    """A model of one's own: an object, or what makes it by its name."""

    kind: str = OWN

    object: Any = None
    """``module:function`` or ``script.py:Class``, called without arguments; or such an object as
    it is written down, see ``distvi.system.travel``."""

    not_written: str | None = None
    """Why there is no ``object``: then it has to be given again."""

    test_samples: PositiveInt = 50
    """Monte Carlo samples of predictions."""

    @classmethod
    def of(cls, model: Any) -> "OwnModelSettings":
        """The settings that stand for an object, which is written down if that can be."""
        try:
            record = describe(model, THE_MODEL)
            revive(record)  # what cannot be made again is told here, and not by every process
        except CannotTravel as error:
            return cls(not_written=str(error))
        return cls(object=record)

    def made_again(self) -> Any:
        """The object.

        Raises:
            InputError: it was never written down, or what makes it is not where it was.
        """
        if self.object is None and self.not_written:
            raise InputError(
                "the model of this run has to be given again, from Python: model=...; it is not "
                f"written down, because {self.not_written}"
            )
        if self.object is None:
            raise InputError("model.kind is 'own', so give model.object, such as my_models:Net")
        thing = self.object
        thing = ByName(thing) if is_name(thing) else revive(thing)
        return made(thing)


def made(model: Any) -> Any:
    """A model, made now if what was given is what makes it: a class or `distvi.by_name`."""
    return model() if isinstance(model, ByName | type) else model


@dataclass(frozen=True)
class OwnModel:
    """An object of someone else's as a `distvi.models.base.Model`.

    Attributes:
        own: The object.
    """

    own: Any

    def init(self, key: Array) -> Params:
        """Initial parameters."""
        return self.own.init(key)

    def neg_elbo(self, params: Params, batch: Batch, key: Array, n_data: int) -> Array:
        """The object's ``neg_elbo``, or its ``loss``."""
        if hasattr(self.own, "neg_elbo"):
            return self.own.neg_elbo(params, batch, key, n_data)
        return self.own.loss(params, batch, key)

    @property
    def divergence(self) -> Callable[[Params], Array]:
        """The object's; an `AttributeError` where it does not tell its loss apart."""
        return self.own.divergence

    @property
    def freeze_until(self) -> Callable[[Params], Any] | None:
        """The object's, if it has any."""
        return getattr(self.own, "freeze_until", None)


@dataclass(frozen=True)
class PredictingModel(OwnModel):
    """One that can be tested."""

    def predict(
        self, params: Params, x: Float[Array, "points inputs"], key: Array, samples: int
    ) -> Any:
        """The object's predictions."""
        return self.own.predict(params, x, key, samples)


def as_model(own: Any) -> OwnModel:
    """An object as a model.

    Args:
        own: With ``init`` and ``neg_elbo`` or ``loss``, and perhaps ``predict``.

    Raises:
        InputError: it lacks one of them.

    Example:
        >>> as_model(3)
        Traceback (most recent call last):
        distvi.errors.InputError: the model is an int without init(key); see distvi.Model
    """
    what = f"the model is {_article(type(own).__name__)} without"
    if not callable(getattr(own, "init", None)):
        raise InputError(f"{what} init(key); see distvi.Model")
    if not any(callable(getattr(own, name, None)) for name in ("neg_elbo", "loss")):
        raise InputError(
            f"{what} neg_elbo(params, batch, key, n_data) and without loss(params, batch, key): "
            "it needs one of them, see distvi.Model"
        )
    return PredictingModel(own) if callable(getattr(own, "predict", None)) else OwnModel(own)


def _article(name: str) -> str:
    return f"{'an' if name[:1].lower() in 'aeiou' else 'a'} {name}"
