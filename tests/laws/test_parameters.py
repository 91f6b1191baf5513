"""The flat layout, placements, and optimizers in parts against the same optimizers whole."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from hypothesis import given
from hypothesis import strategies as st

from distvi.algorithms.base import Delivery
from distvi.algorithms.combine import rates
from distvi.algorithms.freeze import freeze, freezes
from distvi.algorithms.gradient import optimize
from distvi.errors import InputError, RunFailed
from distvi.parameters import (
    PLACEMENTS,
    Locality,
    Shards,
    Store,
    layout_of,
    locality_of,
    make_shards,
    place,
)
from distvi.protocol import Commit, Contribution, Ticket
from distvi.training import optimizers

SHAPES = {"a": (7, 4), "b": {"c": (4,), "d": (3, 5)}, "e": ()}
sizes = st.lists(st.integers(1, 50), min_size=8, max_size=20)


def tree_of(seed: int):
    rng = np.random.default_rng(seed)
    return jax.tree.map(
        lambda shape: jnp.asarray(rng.normal(size=shape), jnp.float32),
        SHAPES,
        is_leaf=lambda node: isinstance(node, tuple),
    )


def test_the_flat_vector_is_the_tree_and_back(seed: int) -> None:
    tree = tree_of(seed)
    layout = layout_of(tree)
    flat = layout.flatten(tree)
    assert flat.shape == (layout.size,) == (48,)
    assert [tensor.name for tensor in layout.tensors] == ["a", "b/c", "b/d", "e"]
    jax.tree.map(np.testing.assert_array_equal, layout.unflatten(flat), tree)


def test_parameters_other_than_float32_are_refused() -> None:
    with pytest.raises(InputError, match="parameter b/n is int32"):
        layout_of({"b": {"n": jnp.zeros(2, jnp.int32)}})


@given(sizes, st.integers(1, 8), st.sampled_from(sorted(PLACEMENTS)))
def test_every_parameter_is_on_exactly_one_server(sizes, servers, name) -> None:
    placement = place(name, sizes, servers)
    owned = [
        (slice_.tensor, entry)
        for part in placement.shards
        for slice_ in part
        for entry in range(slice_.start, slice_.stop)
    ]
    assert len(placement.shards) == servers
    assert sorted(owned) == [(t, e) for t, size in enumerate(sizes) for e in range(size)]
    if name == "ranges":
        assert max(placement.sizes) - min(placement.sizes) <= 1
    else:
        assert all(
            slice_[1:] == (0, sizes[slice_[0]]) for part in placement.shards for slice_ in part
        )


@given(st.lists(st.integers(1, 10**6), min_size=1), st.integers(1, 8))
def test_long_ranges_begin_at_lines_of_the_cache(sizes, servers) -> None:
    placement = place("ranges", [*sizes, 64 * 16 * servers], servers)
    total, starts = sum(placement.sizes), np.cumsum([0, *placement.sizes[:-1]])
    assert total == sum(sizes) + 64 * 16 * servers
    assert not (starts % 16).any()
    assert placement.largest_share <= (1 + 1 / 64) / servers


@pytest.mark.parametrize(
    ("name", "servers", "message"),
    [
        ("ranges", 4, "parameters for 3 .*choose at most 3$"),
        ("round-robin", 3, "tensors for 2 .*at most 2, or placement 'ranges'"),
        ("greedy", 0, "servers is 0"),
        ("range", 1, "did you mean 'ranges'"),
    ],
)
def test_servers_without_parameters_are_refused(name: str, servers: int, message: str) -> None:
    with pytest.raises(InputError, match=message):
        place(name, [1, 2], servers)


def shards_of(params, optimizer, name: str, servers: int, until=None) -> Shards:
    layout = layout_of(params)
    rule = optimize(freeze(optimizer, until), is_uniform=not freezes(until))
    return make_shards(layout, place(name, layout.sizes, servers), rule)


def gradients(seed: int, updates: int):
    return [tree_of(seed + 1 + update) for update in range(updates)]


def unsharded(optimizer, seed: int, updates: int):
    params = tree_of(seed)
    state = optimizer.init(params)

    @jax.jit
    def step(params, state, gradient):
        updates, state = optimizer.update(gradient, state, params)
        return optax.apply_updates(params, updates), state

    for gradient in gradients(seed, updates):
        params, state = step(params, state, gradient)
    return params, state


def sharded(shards: Shards, seed: int, updates: int):
    store = Store(shards, shards.layout.flatten(tree_of(seed)))
    for version, gradient in enumerate(gradients(seed, updates), start=1):
        ticket = Ticket(0, 0, version, base=version - 1)
        store.hold(ticket, shards.layout.flatten(gradient), store.pull())
        store.commit(Commit(version, (Contribution(ticket),)))
    return store.params, store.state


def assert_same(one, other) -> None:
    assert jax.tree.structure(one) == jax.tree.structure(other)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-6, atol=1e-7), one, other)


@pytest.mark.parametrize("name", sorted(PLACEMENTS))
@pytest.mark.parametrize("optimizer", [optax.adam(0.1), optax.sgd(0.1, momentum=0.9)])
def test_parts_give_the_parameters_of_the_whole(name, optimizer, seed: int) -> None:
    until = {"a": 0, "b": {"c": 2, "d": 0}, "e": 1}
    shards = shards_of(tree_of(seed), optimizer, name, 3, until)
    assert_same(sharded(shards, seed, 4), unsharded(freeze(optimizer, until), seed, 4))


@pytest.mark.parametrize("name", sorted(PLACEMENTS))
def test_servers_that_are_joined_make_the_same_updates(name: str, seed: int) -> None:
    several = shards_of(tree_of(seed), optax.adam(0.1), name, 3)
    one = several.joined
    assert (len(several.each), len(one.each)) == (3, 1)
    results = []
    for shards in (several, one):
        flat = shards.layout.flatten(tree_of(seed))
        states = shards.init(flat)
        for gradient in gradients(seed, 3):
            delivery = Delivery(shards.layout.flatten(gradient), 0.5)
            payload = jax.jit(shards.combine)(flat, states, [delivery, delivery])
            flat, states = jax.jit(shards.update)(flat, states, payload, 0.5)
        results.append((flat, shards.gather(states)))
    assert_same(*results)


def test_servers_that_look_at_whole_tensors_are_not_joined(seed: int) -> None:
    shards = shards_of(tree_of(seed), optimizers.build("muon", 0.1), "greedy", 3)
    assert shards.joined is shards


@pytest.mark.parametrize("name", ["round-robin", "greedy"])
def test_whole_matrices_on_placements_by_tensor(name: str, seed: int) -> None:
    muon = optimizers.build("muon", 0.1)
    assert_same(sharded(shards_of(tree_of(seed), muon, name, 3), seed, 3), unsharded(muon, seed, 3))


def test_a_state_goes_to_other_servers_and_back(seed: int) -> None:
    params, adam = tree_of(seed), optax.adam(0.1)
    _, opt_state = sharded(shards_of(params, adam, "ranges", 3), seed, 2)
    for name in PLACEMENTS:
        shards = shards_of(params, adam, name, 4)
        assert_same(shards.gather(shards.scatter(opt_state)), opt_state)


LOCALITIES = {
    Locality.ELEMENTWISE: "adam adamw sgd rmsprop lion adagrad adamax yogi",
    Locality.PER_TENSOR: "muon lamb lars novograd",
    Locality.GLOBAL: "prodigy dadapt_adamw",
}
SCOPES = {name: locality for locality, names in LOCALITIES.items() for name in names.split()}


def looks_at(optimizer, seed: int) -> tuple[Locality, str]:
    return locality_of(optimize(optimizer), tree_of(seed))


@pytest.mark.parametrize("name", SCOPES)
def test_what_optimizers_look_at(name: str, seed: int) -> None:
    assert looks_at(optimizers.build(name, 0.1), seed)[0] is SCOPES[name]


def test_draws_depend_on_the_shape_that_is_drawn(seed: int) -> None:
    noisy = optax.noisy_sgd(0.1, key=jax.random.key(seed))
    assert looks_at(noisy, seed)[0] is Locality.GLOBAL


def test_clipping_looks_at_everything_even_while_it_does_not_clip(seed: int) -> None:
    clipped = optax.chain(optax.clip_by_global_norm(1e9), optax.adam(0.1))
    assert looks_at(clipped, seed) == (Locality.GLOBAL, "reduce_sum")
    with pytest.raises(InputError, match=r"all parameters together .* on 2 servers; use 1 server"):
        shards_of(tree_of(seed), clipped, "ranges", 2)
    for name in PLACEMENTS:
        shards = shards_of(tree_of(seed), clipped, name, 1)
        assert_same(sharded(shards, seed, 2), unsharded(clipped, seed, 2))


def test_a_cut_matrix_is_refused(seed: int) -> None:
    with pytest.raises(InputError, match=r"whole tensors .* cuts a; use placement 'greedy'"):
        shards_of(tree_of(seed), optimizers.build("muon", 0.1), "ranges", 3)


def test_an_update_is_on_all_servers_or_on_none(seed: int) -> None:
    until = {"a": 0, "b": {"c": 0, "d": 0}, "e": 1}  # so that servers are not joined into one
    shards = shards_of(tree_of(seed), optax.sgd(0.1), "ranges", 2, until)
    assert shards.joined is shards
    store = Store(shards, shards.layout.flatten(tree_of(seed)))
    before = store.pull()
    here, absent = Ticket(0, 0, 0, base=0), Ticket(1, 0, 0, base=0)
    store.hold(here, before.flat, before)
    for command in (
        Commit(1, (Contribution(here), Contribution(absent))),
        Commit(2, (Contribution(here),)),
    ):
        with pytest.raises(RunFailed, match="not all here"):
            store.commit(command)
        assert store.pull() is not None
        np.testing.assert_array_equal(store.pull().flat, before.flat)
    store.commit(Commit(1, (Contribution(here),)))
    assert store.pull().version == 1
    moved = jax.tree.map(lambda leaf: 0.9 * leaf, tree_of(seed)) | {"e": tree_of(seed)["e"]}
    np.testing.assert_allclose(store.pull().flat, shards.layout.flatten(moved), rtol=1e-6)


def test_snapshots_share_memory(seed: int) -> None:
    shards = shards_of(tree_of(seed), optax.sgd(0.1), "ranges", 2)
    store = Store(shards, shards.layout.flatten(tree_of(seed)))
    assert store.pull().flat is store.pull().flat


def test_weights_and_rates_of_an_update() -> None:
    one, two = Ticket(0, 0, 0, 0), Ticket(1, 0, 0, 0)
    assert rates((Contribution(one, 0.5), Contribution(two, 0.5))) == (1.0, (0.5, 0.5))
    assert rates((Contribution(one, 1.0, 0.25),)) == (0.25, (1.0,))
    assert rates((Contribution(one, 1.0, 1.0), Contribution(two, 1.0, 0.5))) == (
        0.75,
        (1 / 0.75, 0.5 / 0.75),
    )
    assert rates((Contribution(one, 1.0, 0.0),)) == (0.0, (1.0,))


def test_a_rate_slows_adam_where_a_scaled_gradient_would_not(seed: int) -> None:
    shards = shards_of(tree_of(seed), optax.adam(0.1), "ranges", 2)
    start = shards.layout.flatten(tree_of(seed))

    def moved(part: Contribution):
        store = Store(shards, start)
        store.hold(part.ticket, shards.layout.flatten(tree_of(seed + 1)), store.pull())
        store.commit(Commit(1, (part,)))
        return store.pull().flat - start

    ticket = Ticket(0, 0, 0, base=0)
    whole = moved(Contribution(ticket))
    np.testing.assert_allclose(
        moved(Contribution(ticket, rate=0.25)), whole / 4, rtol=1e-4, atol=1e-7
    )
    np.testing.assert_allclose(
        moved(Contribution(ticket, weight=0.25)), whole, rtol=1e-4, atol=1e-7
    )
