"""The rules by name, as the command line and configuration files spell them.

A rule is a module of this folder with two things: its settings, and ``wrap(settings, draft)``,
which changes what workers or servers do. Nothing else needs to know of it. Modules are imported
when a run asks for them: a list of names is all that the command line needs.
"""

from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

from pydantic import ValidationError

from distvi.errors import InputError, nearest
from distvi.system.names import find, is_name, name_of
from distvi.system.settings import Settings, complaint

if TYPE_CHECKING:
    from distvi.algorithms.draft import Draft


class Rule(NamedTuple):
    """A rule by name.

    Attributes:
        module: Where it is.
        settings: Name of its settings there.
    """

    module: str
    settings: str

    @property
    def settings_class(self) -> type[Settings]:
        """Its settings."""
        return find(f"{self.module}:{self.settings}")

    @property
    def wrap(self) -> "Callable[[Any, Draft], Draft]":
        """What it does: ``wrap`` of its module, or of its settings."""
        own = getattr(self.settings_class, "wrap", None)
        return find(f"{self.module}:wrap") if own is None else own


_HERE = __package__
RULES: dict[str, Rule] = {
    "local-steps": Rule(f"{_HERE}.local_steps", "LocalStepsSettings"),
    "diloco": Rule(f"{_HERE}.diloco", "DiLoCoSettings"),
    "easgd": Rule(f"{_HERE}.easgd", "EASGDSettings"),
    "top-k": Rule(f"{_HERE}.top_k", "TopKSettings"),
    "cast": Rule(f"{_HERE}.cast", "CastSettings"),
    "int8": Rule(f"{_HERE}.int8", "Int8Settings"),
    "robust-mean": Rule(f"{_HERE}.robust_mean", "RobustMeanSettings"),
    "server-divergence": Rule(f"{_HERE}.server_divergence", "ServerDivergenceSettings"),
    "pvi": Rule(f"{_HERE}.pvi", "PVISettings"),
    "delay-compensation": Rule(f"{_HERE}.delay_compensation", "DelayCompensationSettings"),
    "gap-aware": Rule(f"{_HERE}.gap_aware", "GapAwareSettings"),
    "step-limit": Rule(f"{_HERE}.step_limit", "StepLimitSettings"),
}
"""By name, see `register_rule` for those of one's own."""

NO_OPTIONS: Mapping[str, Any] = {}


def register_rule(name: str, settings: type[Settings]) -> None:
    """Give a rule of one's own a name, by which runs of this process know it.

    Args:
        name: As in ``distvi.train(..., rules=[name])``.
        settings: Its settings; this class, or its module, has ``wrap(settings, draft)``.

    Raises:
        InputError: the name is taken by another rule.
    """
    rule = Rule(settings.__module__, settings.__name__)
    if RULES.get(name, rule) != rule:
        raise InputError(f"rule {name!r} exists already; choose another name")
    RULES[name] = rule


def rule_named(name: str) -> Rule:
    """A rule by its name.

    Args:
        name: A key of ``RULES``; or ``module:Settings``, with ``wrap`` as in `register_rule`.

    Raises:
        InputError: there is none.
    """
    if is_name(name):
        module, _, settings = name.rpartition(":")
        return Rule(module, settings)
    if name not in RULES:
        raise InputError(f"rule {name!r} is unknown{nearest(name, RULES)}")
    return RULES[name]


def name_elsewhere(name: str) -> str:
    """By which other processes find a rule: they know of none that was registered in this one.

    Args:
        name: See `rule_named`.

    Raises:
        InputError: there is none.
        CannotTravel: its settings cannot be imported there.
    """
    rule = rule_named(name)
    if is_name(name) or rule.module.startswith(f"{_HERE}."):
        return name
    return name_of(rule.settings_class, f"rule {name!r}")


def settings_of(
    names: Iterable[str], options: Mapping[str, Any] = NO_OPTIONS
) -> dict[str, Settings]:
    """The settings of rules, each with those options that it has.

    Args:
        names: Keys of ``RULES``, or ``module:Settings``.
        options: Of all of them together.

    Raises:
        InputError: a name or an option is unknown, or an option has a wrong value.

    Example:
        >>> settings_of(["top-k"], {"fraction": "0.1"})
        {'top-k': TopKSettings(fraction=0.1)}
    """
    options = {key.replace("-", "_"): value for key, value in options.items()}
    found: dict[str, Settings] = {}
    for name in names:
        if name in found:
            raise InputError(f"rule {name!r} is named twice; a run has each once")
        kind = rule_named(name).settings_class
        own = {key: value for key, value in options.items() if key in kind.model_fields}
        try:
            found[name] = kind.model_validate(own)
        except ValidationError as error:
            raise InputError(f"rule {name}: {complaint(error)}") from error
    known = [key for settings in found.values() for key in type(settings).model_fields]
    for option in options:
        if option not in known:
            what = f"no option {option!r}{nearest(option, known)}" if known else "no options"
            names_in_use = ", ".join(found) or "none"
            raise InputError(f"the rules of this run ({names_in_use}) have {what}")
    return found


def given_options(settings: Mapping[str, Settings], options: Mapping[str, Any]) -> dict[str, Any]:
    """The options that were given, by their names and of their types.

    Args:
        settings: From `settings_of`.
        options: As they were given to it, perhaps as text.
    """
    names = {option.replace("-", "_") for option in options}
    return {
        name: getattr(own, name)
        for own in settings.values()
        for name in type(own).model_fields
        if name in names
    }


def draft_of(settings: Mapping[str, Settings], draft: "Draft") -> "Draft":
    """A draft as rules change it, in their order.

    Args:
        settings: From `settings_of`.
        draft: With a plain gradient and the run's optimizer.
    """
    for name, own in settings.items():
        draft = rule_named(name).wrap(own, draft)
    return draft
