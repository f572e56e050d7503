import math

import pytest

from growprune.training.recipe import OptimizerSettings
from growprune.training.schedule import learning_rate


def test_constant():
    settings = OptimizerSettings(learning_rate=0.3, schedule="constant")
    assert {learning_rate(settings, step, 10, 5) for step in range(50)} == {0.3}


def test_exponential_divides_after_every_epoch():
    settings = OptimizerSettings(learning_rate=1.0, schedule="exponential", anneal=2.0)
    rates = [learning_rate(settings, step, 2, 3) for step in range(6)]
    assert rates == [1, 1, 0.5, 0.5, 0.25, 0.25]


def test_one_cycle_rises_linearly_and_falls_along_a_cosine():
    settings = OptimizerSettings(learning_rate=1.0, warmup=0.2, final_scale=0.1)
    rates = [learning_rate(settings, step, 10, 1) for step in range(10)]
    assert rates[:2] == pytest.approx([1 / 3, 2 / 3])
    assert rates[2] == 1.0
    assert rates[6] == pytest.approx(0.55)
    assert rates[9] == pytest.approx(0.1 + 0.9 * 0.5 * (1 + math.cos(math.pi * 7 / 8)))
    assert rates[2:] == sorted(rates[2:], reverse=True)


def test_one_cycle_may_end_before_the_run_does():
    settings = OptimizerSettings(learning_rate=1.0, final_scale=0.1, final_epochs=2)
    rates = [learning_rate(settings, step, 10, 5) for step in range(50)]
    whole = settings.model_copy(update={"final_epochs": 0})
    assert rates[:30] == [learning_rate(whole, step, 10, 3) for step in range(30)]
    assert rates[30:] == [pytest.approx(0.1)] * 20
