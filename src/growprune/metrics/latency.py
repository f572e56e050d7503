"""Time that calls take, measured by turns so that all meet the same disturbances."""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from statistics import median, quantiles


@dataclass(frozen=True)
class Seconds:
    """Seconds a call takes: the median over the rounds, and the quartiles around it."""

    median: float
    low: float
    high: float


def by_turns(
    calls: Mapping[str, Callable[[], object]], *, rounds: int = 15, turn: float = 5e-3
) -> dict[str, Seconds]:
    """Time calls in one process, one after the other, round after round.

    Calls of microseconds are repeated within a turn, which then counts as their mean: a clock's
    own cost does not show. Before it is measured a turn is taken once unmeasured: the neighbours
    have taken the caches, and some engines need many calls to be at their best again.

    Args:
        calls: what to time, by name.
        rounds: turns of every call.
        turn: seconds that a turn should take at least, as far as a call is short.
    """
    repeats = {name: _repeats(call, turn) for name, call in calls.items()}
    taken: dict[str, list[float]] = {name: [] for name in calls}
    for _ in range(rounds):
        for name, call in calls.items():
            _seconds(call, repeats[name])
            taken[name].append(_seconds(call, repeats[name]))
    return {name: _summary(seconds) for name, seconds in taken.items()}


def _repeats(call: Callable[[], object], turn: float) -> int:
    """How often a call fits into a turn, after two calls that warm up what it keeps."""
    call()
    call()
    return max(1, round(turn / _seconds(call, 1)))


def _seconds(call: Callable[[], object], repeats: int) -> float:
    start = time.perf_counter()
    for _ in range(repeats):
        call()
    return (time.perf_counter() - start) / repeats


def _summary(seconds: list[float]) -> Seconds:
    if len(seconds) == 1:
        return Seconds(seconds[0], seconds[0], seconds[0])
    low, _, high = quantiles(seconds, n=4, method="inclusive")
    return Seconds(median(seconds), low, high)
