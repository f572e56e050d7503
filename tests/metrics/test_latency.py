import pytest

from growprune.metrics import by_turns, latency


class Clock:
    """Time passes only where a call says so."""

    def __init__(self, monkeypatch):
        self.now, self.calls = 0.0, []
        monkeypatch.setattr(latency.time, "perf_counter", lambda: self.now)

    def call(self, name, *seconds):
        """A call that takes these times in turn, the last one ever after."""

        def run():
            taken = sum(called == name for called in self.calls)
            self.now += seconds[min(taken, len(seconds) - 1)]
            self.calls.append(name)

        return run


@pytest.fixture
def clock(monkeypatch):
    return Clock(monkeypatch)


def test_every_call_gets_its_turns_in_order(clock):
    calls = {"first": clock.call("first", 1.0), "second": clock.call("second", 2.0)}
    found = by_turns(calls, rounds=3, turn=0)
    # Three calls each to warm up and to estimate, then by turns: one to warm up, one measured.
    assert clock.calls == ["first"] * 3 + ["second"] * 3 + (["first"] * 2 + ["second"] * 2) * 3
    assert [seconds.median for seconds in found.values()] == [1.0, 2.0]


def test_short_calls_fill_their_turn_and_count_as_their_mean(clock):
    found = by_turns({"short": clock.call("short", 0.25)}, rounds=2, turn=1.0)
    assert len(clock.calls) == 3 + 2 * (4 + 4)
    assert found["short"].median == 0.25


def test_median_and_quartiles_are_of_the_measured_turns(clock):
    times = [9.0, 9.0, 1.0]  # warming up, and the estimate
    for measured in (1.0, 2.0, 3.0, 4.0, 5.0):
        times += [7.0, measured]  # warming up again, and the turn
    found = by_turns({"call": clock.call("call", *times)}, rounds=5, turn=0)["call"]
    assert (found.low, found.median, found.high) == (2.0, 3.0, 4.0)


def test_a_single_round_has_no_spread(clock):
    found = by_turns({"call": clock.call("call", 0.5)}, rounds=1, turn=0)["call"]
    assert (found.low, found.median, found.high) == (0.5, 0.5, 0.5)
