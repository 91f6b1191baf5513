"""Objects written down come back as they were, through JSON and through TOML."""

import functools
import json
import math
import tomllib
from collections import OrderedDict
from enum import Enum
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from distvi.models import DeepGPSettings
from distvi.models.likelihoods import StudentT
from distvi.system.names import CannotTravel, by_name, find, name_of
from distvi.system.settings import write_toml
from distvi.system.travel import MOST_ENTRIES, describe, revive

plain = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(2**63), 2**63 - 1),
    st.floats(allow_nan=False),
    st.text(st.characters(exclude_categories=["Cs"])),
    st.builds(Path, st.sampled_from(["a", "/b/c"])),
)
things = st.recursive(
    plain,
    lambda inner: st.one_of(
        st.lists(inner), st.lists(inner).map(tuple), st.dictionaries(st.text("abc"), inner)
    ),
    max_leaves=8,
)


class Colour(Enum):
    RED = 1


class Pair(NamedTuple):
    first: Any
    second: Any


class Loop:
    def __init__(self) -> None:
        self.me = self


class Slots:
    __slots__ = ("width",)

    def __init__(self) -> None:
        self.width = 3


class Cached:
    def __init__(self) -> None:
        self.width = 3

    @functools.cached_property
    def area(self) -> Any:
        return lambda: self.width**2


@given(things)
def test_plain_values_come_back_through_json_and_toml(thing: Any) -> None:
    record = describe(thing)
    assert revive(json.loads(json.dumps(record))) == thing
    table = {"object": {"in": [record]}}
    assert revive(tomllib.loads(write_toml(table))["object"]["in"][0]) == thing


@pytest.mark.parametrize(
    "thing",
    [
        Colour.RED,
        Pair(1, Pair(None, "x")),
        StudentT(6, 0.1),
        DeepGPSettings(width=7, ard=False),
        by_name("pathlib:Path", path="a"),
        np.dtype("float32"),
        np.float32(0.1),
        math.sin,
        math,
        Pair,
        jnp.tanh,
    ],
)
def test_objects_come_back(thing: Any) -> None:
    again = revive(json.loads(json.dumps(describe(thing))))
    assert again == thing
    assert type(again) is type(thing)


@pytest.mark.parametrize("array", [np.array([[0.1, np.inf]], np.float32), np.zeros((0, 3), bool)])
@pytest.mark.parametrize("make", [np.asarray, jnp.asarray])
def test_arrays_come_back_to_the_bit(make: Any, array: np.ndarray) -> None:
    again = revive(json.loads(json.dumps(describe(make(array)))))
    assert isinstance(again, type(make(array)))
    assert (again.dtype, again.shape) == (array.dtype, array.shape)
    assert (np.asarray(again) == array).all()


def test_what_is_computed_from_fields_stays_behind() -> None:
    thing = Cached()
    assert thing.area() == 9
    assert vars(revive(describe(thing))) == {"width": 3}


def test_a_partial_comes_back() -> None:
    again = revive(describe(functools.partial(int, base=3)))
    assert again("11") == 4


@pytest.mark.parametrize(
    ("thing", "words"),
    [
        (lambda: 0, "it is a lambda, which has no name"),
        ({"a": [0, lambda: 0]}, "entry 1 of entry 'a' of it is a lambda"),
        (Pair(1, lambda: 0), "field 'second' of it is a lambda"),
        (functools.partial(dict, base=lambda: 0), "argument 'base' of it is a lambda"),
        (Loop(), "field 'me' of it refers to itself"),
        (Slots(), r"it is .*Slots, whose fields cannot be seen; make it in a function"),
        (OrderedDict(a=1), r"it is collections.OrderedDict, whose fields cannot be seen"),
        ({1: 2}, "dictionary whose keys are not all text"),
        (np.zeros(MOST_ENTRIES + 1), "10,001 numbers, too many to write down; let a function"),
        (np.array(["a"]), "array of <U1"),
        (jax.random.key(0), "array of key<fry>, which has no numbers"),
        (jax.jit(lambda: 0), "it is a lambda"),
        (np.random.default_rng(0), "whose fields cannot be seen"),
    ],
)
def test_what_cannot_travel_is_told_with_its_place(thing: Any, words: str) -> None:
    with pytest.raises(CannotTravel, match=words):
        describe(thing, "it")


def test_a_name_that_means_something_else_is_told() -> None:
    other = type("Pair", (), {"__module__": __name__})
    with pytest.raises(CannotTravel, match="has something else of that name"):
        name_of(other, "it")
    assert find(name_of(Pair, "it")) is Pair
