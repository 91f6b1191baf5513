"""What each scheme promises, on clusters with random times, losses and repeats."""

import heapq
import random
from collections.abc import Callable, Iterator
from typing import NamedTuple

import pytest

from distvi.aggregation import (
    Scheme,
    add,
    asynchronous,
    average_by_size,
    backup_gradients,
    backup_workers,
    drop_stale_async,
    dynamic_backup,
    k_async,
    k_batch_async,
    k_batch_sync,
    k_sync,
    softsync,
    ssp,
    staleness_aware,
    sync,
)
from distvi.protocol import (
    Cancel,
    Commit,
    Event,
    Free,
    GradientArrived,
    Joined,
    Left,
    Reason,
    Rules,
    SendParameters,
    State,
    Ticket,
    initial_state,
    react,
)


class Step(NamedTuple):
    """One event of a run and what came of it."""

    now_s: float
    state: State
    commits: list[Commit]
    freed: list[Free]
    sent: list[SendParameters]
    cancelled: list[Cancel]


class Faults(NamedTuple):
    """How often a request ends with the loss of its worker, and a push comes twice."""

    loss: float = 0.0
    repeats: float = 0.0


NO_FAULTS = Faults()
FAULTS = Faults(loss=0.05, repeats=0.2)


def exponential(draw: random.Random, worker: int) -> float:
    return draw.expovariate(1)


def steady(draw: random.Random, worker: int) -> float:
    return draw.uniform(0.99, 1.01)


def one_slow(draw: random.Random, worker: int) -> float:
    return draw.uniform(0.9, 1.1) * (6 if worker == 0 else 1)


def run(
    scheme: Scheme,
    workers: int,
    seed: int,
    *,
    time_of: Callable[[random.Random, int], float] = exponential,
    gradients: int = 400,
    faults: Faults = NO_FAULTS,
) -> Iterator[Step]:
    """A cluster whose gradients take random times; some workers leave and come back."""
    draw, rules = random.Random(seed), Rules(scheme)
    state = initial_state(rules)
    coming: list[tuple[float, int, Event]] = [(0.0, w, Joined(w)) for w in range(workers)]
    number = workers
    while gradients:
        now_s, _, event = heapq.heappop(coming)
        gradients -= isinstance(event, GradientArrived)
        state, commands = react(rules, state, event, now_s)
        steps: dict[type, list] = {Commit: [], Free: [], SendParameters: [], Cancel: []}
        following: list[tuple[float, Event]] = []
        for command in commands:
            if type(command) in steps:
                steps[type(command)].append(command)
            if isinstance(command, SendParameters):
                following += _fate(command, now_s, draw, time_of, faults)
        if isinstance(event, Left):
            following.append((now_s + 1, Joined(event.worker, event.incarnation + 1)))
        for at_s, happening in following:
            number += 1
            heapq.heappush(coming, (at_s, number, happening))
        yield Step(now_s, state, *steps.values())


def _fate(
    request: SendParameters,
    now_s: float,
    draw: random.Random,
    time_of: Callable[[random.Random, int], float],
    faults: Faults,
) -> list[tuple[float, Event]]:
    at_s = now_s + time_of(draw, request.worker)
    if draw.random() < faults.loss:
        return [(at_s, Left(request.worker, request.incarnation))]
    ticket = Ticket(request.worker, request.incarnation, request.sequence, request.version)
    again = (
        [(at_s + draw.random(), GradientArrived(ticket))] if draw.random() < faults.repeats else []
    )
    return [(at_s, GradientArrived(ticket)), *again]


def commits_of(steps: Iterator[Step]) -> list[Commit]:
    return [commit for step in steps for commit in step.commits]


def staleness_of(commits: list[Commit]) -> list[int]:
    return [tau for commit in commits for tau in commit.staleness()]


def mean(values: list[int]) -> float:
    return sum(values) / len(values)


# Sync, backup


def test_sync_takes_one_gradient_of_every_member_at_the_newest_version(seed: int) -> None:
    commits = commits_of(run(sync(), 5, seed))
    assert len(commits) == 80
    for commit in commits:
        assert [part.ticket.worker for part in commit.contributions] == [0, 1, 2, 3, 4]
        assert {part.weight for part in commit.contributions} == {0.2}
    assert set(staleness_of(commits)) == {0}


def test_sync_summed_has_weights_of_one(seed: int) -> None:
    assert {
        part.weight
        for commit in commits_of(run(sync(add), 3, seed))
        for part in commit.contributions
    } == {1.0}


def test_sync_goes_on_under_faults_without_ever_mixing_versions(seed: int) -> None:
    commits = commits_of(run(sync(average_by_size), 5, seed, faults=FAULTS))
    assert len(commits) > 50
    assert set(staleness_of(commits)) == {0}
    for commit in commits:
        workers = [part.ticket.worker for part in commit.contributions]
        assert len(set(workers)) == len(workers)
        assert sum(part.weight for part in commit.contributions) == pytest.approx(1)


def test_backup_without_backups_is_sync(seed: int) -> None:
    expected = [step[1:] for step in run(sync(), 5, seed, faults=FAULTS)]
    got = [step[1:] for step in run(backup_workers(5), 5, seed, faults=FAULTS)]
    assert [steps[1:] for steps in got] == [steps[1:] for steps in expected]


def test_backup_workers_takes_the_first_distinct_ones_and_refuses_the_late(seed: int) -> None:
    steps = list(run(backup_workers(4), 6, seed))
    for commit in commits_of(iter(steps)):
        workers = [part.ticket.worker for part in commit.contributions]
        assert len(workers) == len(set(workers)) == 4
        assert set(commit.staleness()) == {0}
    freed = [free for step in steps for free in step.freed]
    assert freed
    assert {free.reason for free in freed} == {Reason.STALE}
    assert not any(step.cancelled for step in steps)


def test_backup_goes_on_when_fewer_members_are_left_than_it_counts() -> None:
    rules = Rules(backup_workers(3))
    state = initial_state(rules)
    events: list[Event] = [Joined(0), Joined(1), Joined(2), Left(2), Left(1)]
    for event in [*events, GradientArrived(Ticket(0, 0, 0, 0))]:
        state, _ = react(rules, state, event, 0.0)
    assert state.version == 1


def test_backup_gradients_lets_a_fast_worker_count_twice_but_no_more_than_there_are_tokens(
    seed: int,
) -> None:
    twice = 0
    started: dict[int, int] = {}
    for step in run(backup_gradients(5), 6, seed, time_of=one_slow):
        for request in step.sent:
            started[request.version] = started.get(request.version, 0) + 1
        for commit in step.commits:
            workers = [part.ticket.worker for part in commit.contributions]
            assert len(workers) == 5
            assert set(commit.staleness()) == {0}
            twice += len(set(workers)) < 5
    assert twice
    assert max(started.values()) <= 6


def test_backup_gradients_may_count_more_than_there_are_workers(seed: int) -> None:
    commits = commits_of(run(backup_gradients(7), 3, seed, faults=FAULTS))
    assert len(commits) > 30
    assert {len(commit.contributions) for commit in commits} == {7}


# Asynchronous, bounded, soft


def test_async_staleness_is_the_number_of_other_workers_for_equal_speeds(seed: int) -> None:
    taus = staleness_of(commits_of(run(asynchronous(), 8, seed, time_of=steady)))
    assert mean(taus[100:]) == pytest.approx(7, rel=0.01)
    taus = staleness_of(commits_of(run(asynchronous(), 8, seed, gradients=2000)))
    assert mean(taus[100:]) == pytest.approx(7, rel=0.02)


def test_a_second_order_costs_one_own_update_of_staleness() -> None:
    rules = Rules(asynchronous(in_flight=2))
    state, commands = react(rules, initial_state(rules), Joined(0), 0.0)
    requests, taus = list(commands), []
    for _ in range(10):
        request = requests.pop(0)
        assert isinstance(request, SendParameters)
        ticket = Ticket(0, 0, request.sequence, request.version)
        state, (commit, following) = react(rules, state, GradientArrived(ticket), 0.0)
        assert isinstance(commit, Commit)
        taus += commit.staleness()
        requests.append(following)
    assert taus == [0] + [1] * 9


@pytest.mark.parametrize("bound", [0, 1, 3])
@pytest.mark.parametrize("time_of", [exponential, one_slow])
def test_ssp_bounds_lead_and_staleness(
    bound: int, time_of: Callable[[random.Random, int], float], seed: int
) -> None:
    workers, furthest = 5, 0
    for step in run(ssp(bound), workers, seed, time_of=time_of):
        for request in step.sent:
            lead = step.state.members[request.worker].clock - step.state.slowest
            furthest = max(furthest, lead)
        for commit in step.commits:
            assert max(commit.staleness()) <= (workers - 1) * (2 * bound + 1)
    assert furthest == bound


@pytest.mark.parametrize("bound", [0, 2])
def test_ssp_bounds_the_lead_under_faults(bound: int, seed: int) -> None:
    for step in run(ssp(bound), 5, seed, faults=FAULTS):
        for request in step.sent:
            assert step.state.members[request.worker].clock - step.state.slowest <= bound


def test_ssp_with_bound_zero_is_lockstep(seed: int) -> None:
    commits = commits_of(run(ssp(0), 4, seed))
    for commit in commits:
        (part,) = commit.contributions
        assert part.ticket.base == (commit.version - 1) // 4 * 4
        assert part.weight == 1


@pytest.mark.parametrize("n", [1, 2, 4, 8])
def test_softsync_staleness_is_n_in_the_mean_and_within_twice_n(n: int, seed: int) -> None:
    commits = commits_of(run(softsync(n), 8, seed, time_of=steady, gradients=1600))
    assert {len(commit.contributions) for commit in commits} == {8 // n}
    taus = staleness_of(commits)[200:]
    assert max(taus) <= 2 * n
    assert mean(taus) == pytest.approx(7 * n / 8, rel=0.15)  # (workers - 1) / c updates


def test_softsync_can_enforce_its_bound(seed: int) -> None:
    commits = commits_of(
        run(softsync(4, max_staleness=8), 8, seed, time_of=one_slow, faults=FAULTS)
    )
    assert max(staleness_of(commits)) <= 8
    free = commits_of(run(softsync(4), 8, seed, time_of=one_slow))
    assert max(staleness_of(free)) > 8


def test_softsync_follows_the_membership() -> None:
    rules = Rules(softsync(1))
    state = initial_state(rules)
    for event in [*map(Joined, range(3)), GradientArrived(Ticket(0, 0, 0, 0)), Left(1), Left(2)]:
        state, _ = react(rules, state, event, 0.0)
    assert state.version == 1


@pytest.mark.parametrize("bound", [0, 2, 9])
def test_drop_stale_applies_nothing_older_than_its_bound(bound: int, seed: int) -> None:
    steps = list(run(drop_stale_async(bound), 6, seed, faults=FAULTS))
    taus = staleness_of(commits_of(iter(steps)))
    assert max(taus) == bound
    freed = [free.reason for step in steps for free in step.freed]
    assert freed
    assert set(freed) == {Reason.STALE}


# k-sync and its relatives


def test_k_sync_cancels_the_rest_and_starts_all_together(seed: int) -> None:
    workers, k = 5, 3
    for step in run(k_sync(k), workers, seed):
        for commit in step.commits:
            assert len({part.ticket.worker for part in commit.contributions}) == k
            assert set(commit.staleness()) == {0}
            assert len(step.cancelled) == workers - k
            assert {request.worker for request in step.sent} == set(range(workers))


def test_k_batch_sync_lets_a_worker_contribute_again(seed: int) -> None:
    again = 0
    for step in run(k_batch_sync(4), 5, seed, time_of=one_slow):
        for commit in step.commits:
            assert len(commit.contributions) == 4
            assert set(commit.staleness()) == {0}
            assert {request.worker for request in step.sent} == set(range(5))
            again += len({part.ticket.worker for part in commit.contributions}) < 4
    assert again == 0
    for step in run(k_batch_sync(6), 3, seed):
        again += sum(len({p.ticket.worker for p in c.contributions}) < 6 for c in step.commits)
    assert again


def test_k_async_waits_for_distinct_workers_and_keeps_the_rest(seed: int) -> None:
    steps = list(run(k_async(2), 5, seed))
    commits = commits_of(iter(steps))
    assert all(len({p.ticket.worker for p in commit.contributions}) == 2 for commit in commits)
    assert not any(step.cancelled or step.freed for step in steps)
    assert max(staleness_of(commits)) > 0
    assert mean(staleness_of(commits)) == pytest.approx(5 / 2 - 1, rel=0.1)


def test_k_async_with_all_workers_is_sync_and_with_one_is_async(seed: int) -> None:
    def updates(scheme: Scheme) -> list[Commit]:
        return commits_of(run(scheme, 4, seed))

    assert updates(k_async(4)) == updates(sync())
    assert updates(k_async(1)) == updates(asynchronous())
    assert updates(k_batch_async(1)) == updates(asynchronous())
    assert updates(softsync(2)) == updates(k_batch_async(2))


# Rates


def test_staleness_aware_rates_go_on_any_scheme(seed: int) -> None:
    for commit in commits_of(run(staleness_aware(softsync(2)), 8, seed)):
        for part, tau in zip(commit.contributions, commit.staleness(), strict=True):
            assert (part.weight, part.rate) == (0.25, 1 / max(tau, 1))


def test_a_rate_of_ones_own(seed: int) -> None:
    scheme = staleness_aware(asynchronous(), rate=lambda tau: 0.5**tau)
    for commit in commits_of(run(scheme, 4, seed)):
        assert commit.contributions[0].rate == 0.5 ** commit.staleness()[0]


# As many as are worth waiting for


def one_very_slow(draw: random.Random, worker: int) -> float:
    return draw.uniform(0.99, 1.01) * (10 if worker == 0 else 1)


def sizes_of(steps: Iterator[Step]) -> list[int]:
    return [len(commit.contributions) for commit in commits_of(steps)]


def test_dynamic_backup_waits_for_all_who_are_equally_fast(seed: int) -> None:
    sizes = sizes_of(run(dynamic_backup(1, 8.0), 8, seed, time_of=lambda draw, worker: 1.0))
    assert set(sizes) == {8}


@pytest.mark.parametrize("noise", [0.5, 8.0, 1e6])
def test_dynamic_backup_leaves_a_slow_worker_behind(noise: float, seed: int) -> None:
    steps = list(run(dynamic_backup(1, noise), 8, seed, time_of=one_very_slow))
    commits, sizes = commits_of(iter(steps)), sizes_of(iter(steps))
    assert sizes[0] == 8  # until it knows
    assert all(0 not in {p.ticket.worker for p in c.contributions} for c in commits[1:])
    if noise > 1:
        assert set(sizes[len(sizes) // 2 :]) == {7}
    assert {free.reason for step in steps for free in step.freed} == {Reason.STALE}
    assert set(staleness_of(commits)) == {0}


def test_dynamic_backup_takes_a_worker_back_that_has_recovered(seed: int) -> None:
    now = [0]

    def recovers(draw: random.Random, worker: int) -> float:
        now[0] += 1
        return 10.0 if worker == 0 and now[0] < 400 else 1.0

    sizes = sizes_of(run(dynamic_backup(1, 8.0), 8, seed, time_of=recovers, gradients=1600))
    assert set(sizes[5:40]) == {7}
    assert set(sizes[-50:]) == {8}


def test_dynamic_backup_waits_for_fewer_the_less_noise_there_is(seed: int) -> None:
    def mean_size(noise: float, least: int = 1) -> float:
        return mean(sizes_of(run(dynamic_backup(least, noise), 8, seed, gradients=3000))[50:])

    assert mean_size(0.5) < mean_size(8.0) < mean_size(100.0) < 8
    assert mean_size(0.5, least=5) >= 5


def test_dynamic_backup_goes_on_under_faults(seed: int) -> None:
    scheme = dynamic_backup(2, 5.0, average_by_size)
    commits = commits_of(run(scheme, 5, seed, faults=FAULTS))
    assert len(commits) > 50
    assert set(staleness_of(commits)) == {0}
    for commit in commits:
        workers = [part.ticket.worker for part in commit.contributions]
        assert len(set(workers)) == len(workers)
        assert sum(part.weight for part in commit.contributions) == pytest.approx(1)
