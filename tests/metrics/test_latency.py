from growprune.metrics import by_turns


def test_every_call_gets_its_turns_in_order():
    order = []
    calls = {name: (lambda name=name: order.append(name)) for name in ("first", "second")}
    found = by_turns(calls, rounds=3, turn=0)
    assert found.keys() == calls.keys()
    # Three calls each to warm up and to estimate, then by turns: one to warm up, one measured.
    assert order == ["first"] * 3 + ["second"] * 3 + (["first"] * 2 + ["second"] * 2) * 3
    for seconds in found.values():
        assert 0 < seconds.low <= seconds.median <= seconds.high


def test_short_calls_are_repeated_and_slow_ones_are_not():
    calls = {"short": 0, "slow": 0}

    def short():
        calls["short"] += 1

    def slow():
        import time

        calls["slow"] += 1
        time.sleep(0.005)

    by_turns({"short": short, "slow": slow}, rounds=1, turn=0.001)
    assert calls["slow"] == 5
    assert calls["short"] > 20
