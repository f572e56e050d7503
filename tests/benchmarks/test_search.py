import importlib.util
import json
import os
import re
import signal
import statistics
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from growprune.data.spoken import make_corpus
from growprune.errors import CheckpointError, RecipeError
from growprune.tasks import open_recipe
from growprune.tasks.speech.model import build_model

sys.path.insert(0, str(Path(__file__).parent))
sys.path.insert(0, str(Path(__file__).parents[2] / "benchmarks"))
import an4
from trial_records import a_record

SCRIPT = Path(__file__).parents[2] / "benchmarks" / "search.py"
TRIALS = """
recipe = "demo-hlstm-gp"
set = ["model.recurrent.hidden_size=8", "model.recurrent.gate_hidden_sizes=[8]",
       "training.epochs=20", "training.average_epochs=1", "plan.grow.epochs=1",
       "plan.grow.interval=2", "plan.prune.rounds=1", "plan.shift.epochs=1"]

[trials.half]
set = ["plan.prune.final_density=0.5"]
seeds = [0, 1]

[trials.tenth]
set = ["plan.prune.final_density=0.1"]
seeds = [0, 1]
"""
FAILING = """
[trials.broken]
set = ["data.train_splits=['none']"]
"""


def load():
    spec = importlib.util.spec_from_file_location("search", SCRIPT)
    module = importlib.util.module_from_spec(spec)
    sys.modules["search"] = module  # where its dataclasses look for their module
    spec.loader.exec_module(module)
    return module


search = load()


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    folder = tmp_path_factory.mktemp("corpus") / "spoken"
    make_corpus(folder, train=12, dev=3, test=3)
    return folder


SPARSE = ("narrower", "sparse-lstm")
"""AN4's trials of other networks with as many active weights."""
OTHER_DENSITIES = {"half": 0.05, "half-blocks": 0.05, "twice": 0.21, "twice-blocks": 0.21}


def an4s_trials(folder):
    found = search.read_search(SCRIPT.with_name("an4-steps.toml"))
    assert all(trial.summary for trial in found.trials.values())
    return {run.trial: run.recipe for run in search.open_runs(found, folder)}


def test_the_trials_of_an4s_small_recogniser_are_recipes(tmp_path):
    """Those that say nothing else end with as many connections as the whole."""
    recipes = an4s_trials(tmp_path)
    assert {recipe.training.epochs for recipe in recipes.values()} == {40}
    _, *ends = final_densities(recipes["whole"].plan)
    for trial, recipe in recipes.items():
        if trial in SPARSE:
            continue
        recurrent = OTHER_DENSITIES.get(trial, 0.105)
        wanted = [1.0] if trial.endswith("dense") or "-dense-" in trial else [recurrent, *ends]
        assert final_densities(recipe.plan) == wanted, trial


def test_an4s_other_networks_have_the_weights_of_its_small_recogniser(tmp_path):
    sizes = {}
    for trial, recipe in an4s_trials(tmp_path).items():
        if trial.startswith("small-dense-") or trial in SPARSE:
            with torch.device("meta"):
                parameters = dict(build_model(recipe).named_parameters())
            density = final_densities(recipe.plan)[0]
            sizes[trial] = sum(
                p.numel() * (density if "recurrent.layers" in name and p.ndim == 2 else 1)
                for name, p in parameters.items()
            )
    assert set(sizes) == set(an4.STEPS.others)
    assert all(0.98 < size / 470_000 < 1.02 for size in sizes.values()), sizes


def test_the_trials_of_flickr8ks_small_captioner_are_recipes(tmp_path):
    """Steps and tricks end with as many connections as the whole."""
    found = search.read_search(SCRIPT.with_name("flickr8k-steps.toml"))
    runs = {run.trial: run.recipe for run in search.open_runs(found, tmp_path)}
    assert {recipe.training.epochs for recipe in runs.values()} == {5}
    assert {recipe.model.recurrent.layers for recipe in runs.values()} == {1}
    whole = runs.pop("whole")
    assert final_densities(whole.plan) == [0.0875, 1.0, 1.0, 1.0]
    for trial, recipe in runs.items():
        densities = final_densities(recipe.plan)
        if trial == "narrower":
            assert densities == [0.175, 1.0, 1.0, 1.0]
        elif trial.endswith(("-0025", "-020")):
            assert densities == [float(f"0.{trial.split('-0')[1]}"), 1.0, 1.0, 1.0]
        elif trial.startswith(("dense", "small-dense")):
            assert densities == [1.0]
        else:
            assert densities == final_densities(whole.plan), trial
        assert bool(recipe.loss.teachers) == trial.startswith("taught")


def test_the_trials_of_flickr8ks_lstms_are_what_their_names_say(tmp_path):
    found = search.read_search(SCRIPT.with_name("flickr8k-lstms.toml"))
    runs = {run.trial: run.recipe for run in search.open_runs(found, tmp_path)}
    names = {"one": "lstm", "two": "lstm-2", "three": "lstm-3", "merged": "lstm-merge"}
    names = {trial: f"neuraltalk-{name}" for trial, name in names.items()}
    for trial, recipe in runs.items():
        layers, *changes = trial.split("-")
        epochs = 20 if "longer" in changes else 10 if "faster" in changes else 11
        inject = "init" if "init" in changes else "pre"
        dropout = recipe.model.dropout
        assert {f"0.{change[1:]}" for change in changes if change[0] == "0"} <= {str(dropout)}
        changed = [f"training.epochs={epochs}", f"model.inject={inject}"]
        changed += [f"model.dropout={dropout}"]
        if "faster" in changes:
            rates = "training.optimizer.learning_rate=4e-3", "training.optimizer.final_scale=0.0125"
            changed += [*rates, "model.feature_deviation=0.125"]
        shipped = open_recipe(names[layers], changed)
        assert (recipe.model, recipe.training) == (shipped.model, shipped.training), trial
        assert recipe.loss == shipped.loss
    for trial in ("one-init-05", "two-init-04", "three-init-04"):
        shipped = open_recipe(names[trial.split("-")[0]])
        assert (runs[trial].model, runs[trial].training) == (shipped.model, shipped.training)


def test_the_trials_of_flickr8ks_rates_differ_in_how_fast_words_and_images_are_learnt(tmp_path):
    found = search.read_search(SCRIPT.with_name("flickr8k-rates.toml"))
    runs = search.open_runs(found, tmp_path)
    for run in runs:
        words = run.recipe.training.optimizer.learning_rate
        deviation = run.recipe.model.feature_deviation
        images = f"-images-{1e3 * words * deviation:g}".replace(".", "") if deviation != 1 else ""
        begun = "-init" if run.recipe.model.inject == "init" else ""
        assert run.trial == f"rate-{1e3 * words:g}{images}{begun}"
        assert (run.recipe.training.epochs, run.recipe.plan.epochs) == (4, 4)


def final_densities(plan):
    """Of the plan's matrices at large and of those of each override."""
    everywhere = [
        plan.prune and plan.prune.final_density, plan.grow and plan.grow.max_density,
        plan.seed_density,
    ]  # fmt: skip
    each = [[one.final_density, one.max_density, one.seed_density] for one in plan.overrides]
    return [next(value for value in values if value is not None) for values in (everywhere, *each)]


def start(*words):
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a child inherits being deaf to it
    return subprocess.Popen(
        [sys.executable, str(SCRIPT), *map(str, words)],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env=os.environ | {"COLUMNS": "200"},
    )


def end(process, status):
    said, _ = process.communicate(timeout=300)
    assert process.returncode == status, said
    return said


def wait_for(path):
    limit = time.monotonic() + 120
    while not path.exists():
        assert time.monotonic() < limit, f"{path} does not appear"
        time.sleep(0.02)


def processes_of(folder):
    """Command lines of processes that were given the folder."""
    lines = []
    for file in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            lines.append(file.read_bytes())
        except OSError:  # it has ended
            continue
    return [line for line in lines if str(folder).encode() in line]


def rows_of(text):
    """The table's rows by trial, each a cell by column, in their order."""
    lines = [line.split(" | ") for line in text.splitlines() if line.startswith("| ")]
    head, _, *rows = [[cell.strip("| ") for cell in line] for line in lines]
    return {row[0]: dict(zip(head, row, strict=True)) for row in rows}


def records_of(out, trial):
    return [
        json.loads((out / f"{trial}-seed{seed}" / "record.json").read_text()) for seed in (0, 1)
    ]


def test_a_search_goes_on_where_it_was_interrupted_and_tells_what_the_records_say(corpus, tmp_path):
    file, out = tmp_path / "trials.toml", tmp_path / "out"
    file.write_text(TRIALS + FAILING)
    words = [file, "--data", corpus, "--out", out, "--jobs", 2, "--threads", 2]
    process = start(*words)
    wait_for(out / "half-seed0" / "record.json")
    wait_for(out / "tenth-seed0" / "checkpoint.pt")
    process.send_signal(signal.SIGINT)
    assert "the same command goes on" in end(process, 130)
    assert not processes_of(out)
    assert not (out / "table.md").exists()
    assert not (out / "tenth-seed0" / "record.json").exists()
    first = (out / "half-seed0" / "record.json").read_bytes()

    said = end(start(*words), 1)
    assert (out / "half-seed0" / "record.json").read_bytes() == first
    assert not re.search("half-seed0 +done", said)
    assert len(re.findall("tenth-seed1 +done", said)) == 1
    assert (
        len(re.findall("broken-seed0 +failed: error: corpus spoken has no none split", said)) == 1
    )
    text = (out / "table.md").read_text()
    assert text in said

    rows = rows_of(text)
    errors = {t: [r["scores"]["dev"]["wer"] for r in records_of(out, t)] for t in ("half", "tenth")}
    means = {trial: statistics.fmean(values) for trial, values in errors.items()}
    assert list(rows) == [*sorted(means, key=means.get), "broken"]
    for trial, values in errors.items():
        row, records = rows[trial], records_of(out, trial)
        spread = statistics.stdev(values)
        assert row["Seeds"] == "0, 1"
        assert row["Dev WER"] == f"{100 * means[trial]:.1f} ± {100 * spread:.1f} %"
        losses = [record["epochs"][-1]["train_loss"] for record in records]
        assert float(row["Train loss"].split()[0]) == pytest.approx(
            statistics.fmean(losses), abs=5e-4
        )
        assert [record["seed"] for record in records] == [0, 1]
        assert all(set(record["scores"]) == {"dev"} for record in records)
        assert {record["hardware"]["threads"] for record in records} == {1}
        density = {"half": 0.5, "tenth": 0.1}[trial]
        assert f"- {trial}: `plan.prune.final_density={density}`. demo-hlstm-gp: seeds 0, 1" in text
    assert rows["broken"]["Seeds"] == "no 0 yet"
    assert rows["broken"]["Dev WER"] == "-"

    (out / "table.md").unlink()
    assert end(start(file, "--out", out, "--table"), 0).strip() == text.strip()
    assert (out / "table.md").read_text() == text


@pytest.fixture
def made(tmp_path):
    """Writes a file of trials, gives each seed the WER asked for, and returns the table."""

    def make(trials, errors, **changes):
        path = tmp_path / "trials.toml"
        path.write_text(f'recipe = "an4-lstm"\nset = ["training.epochs=20"]\n{trials}')
        found = search.read_search(path)
        runs = search.open_runs(found, tmp_path)
        for run in runs:
            if (run.trial, run.seed) in errors:
                recipe = run.recipe.model_dump(mode="json")
                record = a_record(recipe, run.seed, errors[run.trial, run.seed]) | changes
                run.folder.mkdir()
                (run.folder / "record.json").write_text(json.dumps(record))
        return search.table(found, runs)

    return make


THREE = """
[trials.a]
seeds = [0, 2]
[trials.b]
set = ["training.batch_size=4"]
seeds = [0, 1]
[trials.c]
summary = "larger batches"
set = ["training.batch_size=5"]
"""


def test_the_table_by_hand(made, tmp_path):
    text = made(THREE, {("a", 0): 0.30, ("a", 2): 0.20, ("b", 1): 0.10})
    assert list(rows_of(text)) == ["b", "a", "c"]
    assert rows_of(text) == {
        "b": {
            "": "b", "Seeds": "1; no 0 yet", "Weights, whole model": "2.50 k",
            "Weights, recurrent layers": "1.50 k", "Dev WER": "10.0 %", "Dev CER": "5.0 %",
            "Train loss": "2.000", "Training time": "4.00 min",
        },
        "a": {
            "": "a", "Seeds": "0, 2", "Weights, whole model": "2.50 k",
            "Weights, recurrent layers": "1.50 k", "Dev WER": "25.0 ± 7.1 %",
            "Dev CER": "12.5 ± 3.5 %", "Train loss": "2.000 ± 1.414",
            "Training time": "4.00 ± 2.83 min",
        },
        "c": {
            "": "c", "Seeds": "no 0 yet", "Weights, whole model": "-",
            "Weights, recurrent layers": "-", "Dev WER": "-", "Dev CER": "-", "Train loss": "-",
            "Training time": "-",
        },
    }  # fmt: skip
    assert "Every trial: `an4-lstm` with `training.epochs=20`. Sorted by dev wer" in text
    assert "- a: nothing changed. x: seeds 0, 2; data tones" in text
    assert "- c: larger batches (`training.batch_size=5`)\n" in text
    assert "77" not in text
    assert "Test" not in text
    run = search.open_runs(search.read_search(tmp_path / "trials.toml"), tmp_path)[0]
    assert set(run.record().scores) == {"dev"}


def test_a_record_of_other_settings_or_damaged_is_not_in_the_table(made, tmp_path):
    text = made("[trials.a]\n", {("a", 0): 0.3}, recipe={"name": "other"})
    assert rows_of(text)["a"]["Seeds"] == "no 0 yet"
    (tmp_path / "a-seed0" / "record.json").write_text("{")
    with pytest.raises(CheckpointError, match="not JSON"):
        made("[trials.a]\n", {})


def test_dev_says_nothing_of_a_trial_that_learns_from_it(made):
    trials = "[trials.a]\n[trials.final]\nset = [\"data.train_splits=['train', 'dev']\"]\n"
    rows = rows_of(made(trials, {("a", 0): 0.3, ("final", 0): 0.1}))
    assert list(rows) == ["a", "final"]
    assert rows["final"]["Dev WER"] == "-"
    assert rows["final"]["Train loss"] == "1.000"


def test_a_task_whose_metric_is_better_when_larger_is_sorted_the_other_way():
    from growprune.reports import Record

    worse, better = (
        [Record.model_validate(a_record({}, 0, 0, scores={"dev": {"cider_d": value}}))]
        for value in (0.5, 0.75)
    )
    assert search._rank(better, "cider_d", "max") < search._rank(worse, "cider_d", "max")
    assert search._rank(worse, "cider_d", "max") < search._rank([], "cider_d", "max")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('recipe = "an4-lstm"\n', "'trials' is missing"),
        ('recipe = "an4-lstm"\n[trials]\n', "'trials'"),
        ('recipe = "an4-lstm"\n[trials.a]\nseed = [1]\n', "unknown key 'trials.a.seed'"),
        ('recipe = "an4-lstm"\n[trials.a]\nseeds = []\n', "trials.a.seeds"),
        ('recipe = "an4-lstm"\n[trials."a/b"]\n', "trials.a/b"),
        ("recipe = \n", "not valid TOML"),
        ('recipe = "none"\n[trials.a]\n', "trial a: no recipe named 'none'"),
        (
            'recipe = "an4-lstm"\n[trials.a]\n[trials.b]\nset = ["training.epoch=2"]\n',
            "trial b: recipe an4-lstm: unknown key 'training.epoch'",
        ),
        (
            "recipe = \"an4-lstm\"\nset = [\"data.train_splits=['train', 'test']\"]\n[trials.a]\n",
            "trial a: learns from the test split",
        ),
    ],
)
def test_a_wrong_file_of_trials_says_what_is_wrong(tmp_path, text, message):
    path = tmp_path / "trials.toml"
    path.write_text(text)
    with pytest.raises(RecipeError, match=re.escape(message)) as caught:
        search.open_runs(search.read_search(path), tmp_path)
    assert "\n" not in str(caught.value)


def test_what_cannot_be_run_is_one_line(tmp_path, capsys, monkeypatch):
    path = tmp_path / "trials.toml"
    words = ["search.py", str(path), "--data", "x", "--out", str(tmp_path), "--only", "b*"]
    monkeypatch.setattr(sys, "argv", words)
    monkeypatch.setattr(signal, "signal", lambda *_: None)
    for message in ("cannot be read", "no trial is named 'b*'; there are a"):
        with pytest.raises(SystemExit) as caught:
            search.main()
        assert caught.value.code == 1
        error = capsys.readouterr().err
        assert message in error
        assert error.count("\n") == 1
        path.write_text('recipe = "an4-lstm"\n[trials.a]\n')


def test_the_trials_of_flickr8ks_merged_captioner_are_whole_runs_of_it(tmp_path):
    found = search.read_search(SCRIPT.with_name("flickr8k-merge-steps.toml"))
    runs = {run.trial: run.recipe for run in search.open_runs(found, tmp_path)}
    shorter = ("training.epochs=14", "training.optimizer.final_epochs=1", "plan.shift.epochs=10")
    rewards = ("loss.self_critical_epochs=1", "loss.self_critical_feature_dropout=0.0")
    chosen = open_recipe("neuraltalk-hlstm-merge", (*shorter, *rewards, "model.inject=pre"))
    assert {recipe.training for recipe in runs.values()} == {chosen.training}
    assert runs["whole"].model == chosen.model
    assert runs["whole"].plan == open_recipe("neuraltalk-hlstm-small").plan
    assert runs["sparse-seed"] == chosen
    for trial, recipe in runs.items():
        share = {"density-0025": 0.025, "density-020": 0.2, "dense": 1.0}.get(trial, 0.0875)
        assert final_densities(recipe.plan)[0] == share
        assert recipe.plan.epochs in (0, 5, 14)  # a plan without an end is one for all epochs
