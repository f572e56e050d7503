import contextlib
import json
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from matplotlib.figure import Figure

from growprune.errors import DataError
from growprune.reports.record import check_record

sys.path.insert(0, str(Path(__file__).parent))
sys.path.insert(0, str(Path(__file__).parents[2] / "benchmarks"))
import an4
import steps
import tables
from trial_records import a_record

TRIALS = """
recipe = "an4-lstm"
set = ["training.epochs=20"]
[trials.whole]
summary = "everything"
seeds = [0, 1]
[trials.no-noise]
summary = "no noise"
set = ["data.concatenate=0.5"]
seeds = [0, 1]
[trials.later]
[trials.half]
set = ["training.batch_size=8"]
[trials.small-dense-gru]
summary = "a GRU"
set = ["model.recurrent.cell=gru"]
"""
ERRORS = {
    ("whole", 0): 0.10, ("whole", 1): 0.12, ("no-noise", 0): 0.15, ("no-noise", 1): 0.15,
    ("half", 0): 0.20, ("small-dense-gru", 0): 0.09,
}  # fmt: skip


@pytest.fixture
def out(tmp_path, monkeypatch):
    """A folder with records of some trials."""
    path = tmp_path / "trials.toml"
    path.write_text(TRIALS)
    monkeypatch.setattr(an4, "STEPS", replace(an4.STEPS, file=path))
    (tmp_path / "steps").mkdir()
    for run in steps.open_runs(steps.read_search(path), tmp_path):
        if (run.trial, run.seed) in ERRORS:
            recipe, wer = run.recipe.model_dump(mode="json"), ERRORS[run.trial, run.seed]
            if run.seed == 1:  # from before there were other cells
                del recipe["model"]["recurrent"]["cell"]
            data = {"name": "an4", "splits": {"dev": {"utterances": 104}}}
            record = a_record(recipe, run.seed, wer, data=data)
            record["cost"]["weights"]["whole"] = 250_000 if run.trial == "half" else 474_000
            (tmp_path / "steps" / f"{run.folder.name}.json").write_text(json.dumps(record))
    return tmp_path


def test_every_machine_of_a_rows_runs_is_named():
    told = "x: seed 0, 1; learnt from train; commit ab; c, 1 thread(s)"
    others = {("c", "cpu"): told, ("d", "cpu"): f"{told} and d, 1 thread(s)"}
    others["d", "GPU 1"] = f"{told} and GPU 1 beside d, 1 thread(s)"
    for (cpu, device), expected in others.items():
        runs = [a_record({"name": "x"}, seed, 0.1) for seed in (0, 1)]
        runs[1]["hardware"] |= {"cpu": cpu, "device": device}
        assert tables.origin("x", [check_record(run, "x") for run in runs]) == expected


def test_the_tables_by_hand(out):
    text = an4.STEPS.sections(out)
    tables = [
        [line.strip("| ").split(" | ") for line in section.splitlines() if line.startswith("| ")]
        for section in text.split("\n## ")[1:]
    ]
    head = ["trial", "what", "seeds", "weights", "dev WER"]
    whole = ["whole", "everything", "0, 1", "474 k", "11.0 ± 1.4 %"]
    assert [rows[0] for rows in tables] == [head] * 3
    changes, others, curves = (rows[2:] for rows in tables)
    assert changes == [whole, ["no-noise", "no noise", "0, 1", "474 k", "15.0 ± 0.0 % (+4.0)"]]
    assert others == [whole, ["small-dense-gru", "a GRU", "0", "474 k", "9.0 % (-2.0)"]]
    assert curves == [["half", "", "0", "250 k", "20.0 % (+9.0)"], whole]
    assert "dev (104 utterances)" in text
    assert "`an4-lstm` with `training.epochs=20`" in text
    assert "commit ab; c, 1 thread(s)" in text
    assert "77" not in text
    assert (out / "steps.png").read_bytes().startswith(b"\x89PNG")


def test_points_are_of_the_weights_the_mean_and_the_spread(out):
    trials = an4.STEPS.read(steps.read_search(an4.STEPS.file), out / "steps")
    assert an4.STEPS.point(trials["whole"]) == pytest.approx((474_000, 11.0, 2**0.5))
    assert an4.STEPS.point(trials["half"]) == pytest.approx((250_000, 20.0, 0.0))


def test_a_plot_shows_zero_and_all_of_every_point_with_its_spread(out, monkeypatch):
    drawn = []

    def keep(*texts):
        drawn.append(Figure().subplots())
        return contextlib.nullcontext(drawn[0])

    monkeypatch.setattr(steps, "plot_over_weights", keep)
    trials = an4.STEPS.read(steps.read_search(an4.STEPS.file), out / "steps")
    for trial, worst in ("half", 20.0), ("whole", 11 + 2**0.5):  # the higher alone, then the spread
        drawn.clear()
        an4.STEPS.plot({name: trials[name] for name in ("whole", trial)}, out / "steps.png")
        low, high = drawn[0].get_ylim()
        assert low == 0
        assert high == pytest.approx(1.05 * worst)


def test_without_records_there_is_nothing(out):
    for path in (out / "steps").iterdir():
        path.unlink()
    assert an4.STEPS.sections(out) == ""
    assert not (out / "steps.png").exists()


def test_what_cannot_be_compared_is_named(out):
    record = out / "steps" / "half-seed0.json"
    record.rename(record.with_name("none-seed0.json"))
    with pytest.raises(DataError, match=r"none-seed0\.json: not of a trial that trials\.toml has"):
        an4.STEPS.sections(out)
    record.with_name("none-seed0.json").rename(record.with_name("later-seed0.json"))
    with pytest.raises(DataError, match=r"later-seed0\.json: not of a trial"):
        an4.STEPS.sections(out)
    for path in (out / "steps").glob("[lw]*.json"):
        path.unlink()
    with pytest.raises(DataError, match=r"copy whole-seed0\.json there"):
        an4.STEPS.sections(out)
