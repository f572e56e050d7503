import json

import numpy as np
import paired
import pytest


def test_the_interval_is_that_of_the_photographs_mean_differences():
    rng = np.random.default_rng(3)
    theirs = rng.gamma(1.0, 0.5, (2, 800))
    gain = rng.normal(0.02, 0.3, 800)
    ours = theirs.mean(0) + gain + np.array([[0.1], [0.0], [-0.1]])
    mean, low, high = paired.interval(list(ours), list(theirs))
    assert mean == pytest.approx(gain.mean())
    error = gain.std() / np.sqrt(len(gain))  # the means of many photographs are normal
    assert low == pytest.approx(mean - 1.96 * error, abs=0.1 * error)
    assert high == pytest.approx(mean + 1.96 * error, abs=0.1 * error)


def test_a_column_is_named_by_recipe_and_seeds(tmp_path):
    for seed in (0, 2):
        (tmp_path / f"{seed}").mkdir()
        record = json.dumps({"name": "a", "seed": seed})
        (tmp_path / f"{seed}" / "record.json").write_text(record)
    assert paired.label([tmp_path / "0", tmp_path / "2"]) == "a, seed 0, 2"
