import copy
import json
import os
import re
import subprocess
from dataclasses import replace
from pathlib import Path

import flickr8k
import pytest
import steps
import tables

from growprune.reports.record import check_record, group_by_recipe

ROOT = Path(__file__).parents[2]
SCRIPT = ROOT / "benchmarks/flickr8k.sh"
RECORD = json.loads((ROOT / "results/flickr8k/records/neuraltalk-lstm-seed0.json").read_text())


def record(name, seed=0, weights=1000, scores=None, **settings):
    changed = copy.deepcopy(RECORD) | {
        "name": name, "seed": seed, "scores": {}, "seconds": 1260.0, "commit": "0123456789abc",
    }  # fmt: skip
    changed["recipe"] = {"name": name} | settings
    changed["cost"]["weights"] |= {"recurrent": weights, "whole": 2 * weights}
    changed["cost"]["flops_per_caption"] |= {
        "recurrent": 20 * weights, "recurrent_measured": (10 + seed) * weights,
    }  # fmt: skip
    for split, value in (scores or {}).items():
        changed["scores"][split] = {"cider_d": value}
    return check_record(changed, name)


def groups(*records):
    return [*group_by_recipe(records).items()]


def row(table, name):
    (line,) = [line for line in table.splitlines() if line.startswith(f"| {name} |")]
    return [cell.strip() for cell in line.strip("|").split("|")][1:]


def test_sizes_are_told_beside_the_stacked_lstms():
    runs = groups(
        record("small", 0, 50_000), record("small", 2, 50_000), record("neuraltalk-lstm-3", 0, 4e6)
    )
    table = flickr8k.size_table(runs, {"small": (70.04, 50.06)})
    assert row(table, "small") == [
        "50.0k", "80.0x", "1.0", "80.0x", "0.6", "145.5x", "70.0x", "50.1x", "100.0k", "80.0x", "21"
    ]  # fmt: skip
    stacked = row(table, "neuraltalk-lstm-3")
    assert (stacked[1], stacked[3], stacked[9]) == ("1.0x",) * 3
    published = row(table, flickr8k.PUBLISHED.name)
    assert [cell for cell in published if cell] == ["38.7x", "45.5x", "4.5x"]


def test_minutes_on_several_kinds_of_devices_are_not_averaged():
    runs = [record("small", seed) for seed in range(3)]
    runs[0] = runs[0].model_copy(
        update={"seconds": 300.0, "hardware": runs[0].hardware.model_copy(update={"device": "cpu"})}
    )
    runs[2] = runs[2].model_copy(update={"seconds": 780.0})
    assert tables.minutes(runs) == "5 (cpu), 17 (NVIDIA H200)"
    assert tables.minutes(runs[1:]) == "17"


def test_without_a_record_the_stacked_lstms_sizes_are_those_of_the_recipe():
    table = flickr8k.size_table(groups(record("small", 0, 100_000)), {})
    connections = 3 * 4 * 512 * 1024
    cell = connections + 3 * 2 * 4 * 512
    whole = cell + 512 * (1280 + 1) + 512 * 2537 + (512 + 1) * 2537
    assert row(table, "neuraltalk-lstm-3 (not trained)") == [
        f"{cell / 1e3:,.1f}k", "1.0x", f"{22 * connections / 1e6:.1f}", "1.0x", "", "", "", "",
        f"{whole / 1e3:,.1f}k", "1.0x", "",
    ]  # fmt: skip
    assert row(table, "small")[1] == f"{cell / 100_000:.1f}x"


def test_scores_are_told_beside_the_best_lstms():
    runs = groups(
        record("neuraltalk-lstm", 0, scores={"test/beam 3": 0.45, "test": 0.44, "dev": 0.4}),
        record("neuraltalk-lstm", 1, scores={"test/beam 3": 0.47, "test": 0.44, "dev": 0.4}),
        record("neuraltalk-lstm-2", 0, scores={"test/beam 3": 0.455, "test": 0.45, "dev": 0.41}),
        record("small", 0, scores={"test/beam 3": 0.48, "test": 0.43, "dev": 0.44}),
        record("small", 1, scores={"test/beam 3": 0.49, "test": 0.43, "dev": 0.45}),
        record("final", 0, scores={"test": 0.5, "dev": 0.9}, data={"train_splits": ["dev"]}),
    )
    table = flickr8k.score_table(runs)
    head = ["dev, greedy", "test, greedy", "test, beam 3"]
    assert row(table, "CIDEr-D") == head
    assert row(table, "neuraltalk-lstm") == ["40.0 ± 0.0", "44.0 ± 0.0", "46.0 ± 1.4"]
    assert row(table, "neuraltalk-lstm-2") == ["41.0", "45.0", "45.5"]
    assert row(table, "small") == ["44.5 ± 0.7 (+3.5)", "43.0 ± 0.0 (-2.0)", "48.5 ± 0.7 (+2.5)"]
    assert row(table, "final") == ["", "50.0 (+5.0)", ""]
    assert row(table, flickr8k.PUBLISHED.name) == ["", "", "(+2.6)"]


def test_cells_are_compared_with_the_first_one_in_onnxruntime(tmp_path):
    times = {
        ("big (untrained)", "packed"): (20e-6, 30e-6),
        ("big (untrained)", "onnxruntime"): (40e-6, 90e-6),
        ("small-seed1", "onnxruntime"): (10e-6, 10e-6),
        ("small-seed1", "packed"): (2e-6, 3e-6),
    }
    rows = [
        {"model": model, "engine": engine, "rows": count, "seconds": {"median": seconds}}
        for (model, engine), both in times.items()
        for count, seconds in zip((1, 3), both, strict=True)
    ]
    (tmp_path / "cells.json").write_text(json.dumps({"rows": rows}))
    found = flickr8k.cell_factors(tmp_path / "cells.json")
    assert found == {"big": pytest.approx((2, 3)), "small": pytest.approx((20, 30))}
    assert flickr8k.cell_factors(tmp_path / "none.json") == {}


def test_a_page_names_commits_seeds_and_teachers(tmp_path, monkeypatch):
    taught = {"loss": {"teachers": ["runs/a-seed0", "runs/a-seed1"]}}
    for seed in (0, 1):
        made = record("small", seed, 50_000, {"test/beam 3": 0.48}, **taught)
        (tmp_path / f"{seed}.json").write_text(made.model_dump_json())
    (tmp_path / "cells.md").write_text("cells\n")
    paths = [str(tmp_path / f"{seed}.json") for seed in (0, 1)]
    monkeypatch.setattr("sys.argv", ["flickr8k.py", *paths, "--out", str(tmp_path)])
    flickr8k.main()
    text = (tmp_path / "README.md").read_text()
    assert "- small: seed 0, 1; learnt from train; commit 0123456789; " in text
    assert "learnt from a-seed0, a-seed1 as well" in text
    assert "## A step of the cell\n\ncells" in text
    assert (tmp_path / "cider.png").stat().st_size > 1000


def test_a_row_tells_what_its_recipe_has_no_more():
    new = {"task": "captioning", "training": {"epochs": 11, "threads": 3, "accelerator": "cuda"}}
    old = new | {"training": {"epochs": 20}, "model": {"recurrent": {"layers": 2}}}
    told = flickr8k.outdated(record("neuraltalk-lstm", **old))
    expected = "training.epochs = 20, model.recurrent.layers = 2"
    assert told == f"{expected}, where the recipe has 11, 1 by now"
    assert flickr8k.outdated(record("neuraltalk-lstm", **new)) == ""
    assert flickr8k.outdated(record("nobody's", **old)) == ""
    runs = groups(record("neuraltalk-lstm", 0, **old), record("neuraltalk-lstm-2", 0, **new))
    changed, same = flickr8k.notes(runs).splitlines()[-2:]
    assert changed.endswith(f"; trained with {told}")
    assert "trained with" not in same


TRIALS = """
recipe = "neuraltalk-hlstm-small"
set = ['''training.average_epochs =
    0''']
[trials.whole]
summary = "everything"
[trials.density-020]
set = ["plan.prune.final_density=0.2"]
"""


def test_a_page_has_the_steps_by_cell_weights_and_images(tmp_path, monkeypatch):
    file = tmp_path / "trials.toml"
    file.write_text(TRIALS)
    monkeypatch.setattr(flickr8k, "STEPS", replace(flickr8k.STEPS, file=file))
    (tmp_path / "steps").mkdir()
    weights = {"whole": (50_000, 0.40), "density-020": (120_000, 0.43)}
    for run in steps.open_runs(steps.read_search(file), tmp_path):
        count, score = weights[run.trial]
        recipe = run.recipe.model_dump(mode="json")
        name = recipe.pop("name")
        made = record(name, 0, count, {"dev": score}, **recipe)
        (tmp_path / "steps" / f"{run.folder.name}.json").write_text(made.model_dump_json())
    (tmp_path / "0.json").write_text(record("small", 0, 50_000).model_dump_json())
    arguments = ["flickr8k.py", str(tmp_path / "0.json"), "--out", str(tmp_path)]
    monkeypatch.setattr("sys.argv", arguments)
    flickr8k.main()
    text = (tmp_path / "README.md").read_text()
    whole = "| whole | everything | 0 | 50.0 k | 0.400 |"
    assert text.count(whole) == 3
    assert f"{whole}\n| density-020 |  | 0 | 120 k | 0.430 (+0.030) |" in text
    assert "- CIDEr-D of dev (1000 images), greedy" in text
    assert "![Dev CIDEr-D against weights](steps.png)" in text


def test_trials_without_curves_have_a_table_and_no_plot(tmp_path):
    file = tmp_path / "trials.toml"
    file.write_text(TRIALS)
    found = replace(flickr8k.MERGE_STEPS, file=file)
    assert found.sections(tmp_path) == ""
    (tmp_path / "merge-steps").mkdir()
    run = steps.open_runs(steps.read_search(file), tmp_path)[0]
    recipe = run.recipe.model_dump(mode="json")
    made = record(recipe.pop("name"), 0, 50_000, {"dev": 0.4}, **recipe)
    (tmp_path / "merge-steps/whole-seed0.json").write_text(made.model_dump_json())
    text = found.sections(tmp_path)
    assert re.findall("^##.*", text, re.MULTILINE) == [f"## {found.heading}"]
    assert "| whole | everything | 0 | 50.0 k | 0.400 |" in text
    common = "with `training.average_epochs = 0`"
    assert f"- Every trial: `neuraltalk-hlstm-small` {common}, and what" in text
    assert not (tmp_path / "merge-steps.png").exists()


STUB = """#!/bin/sh
echo "$*" >> "$LOG"
case $1 in
train)
    while [ "$1" != --out ]; do shift; done
    mkdir -p "$2"
    test -e "$2/record.json" || echo '{}' > "$2/record.json" ;;
data) mkdir -p "$5" ;;
evaluate) case $* in
    *penalty*split*|*split*penalty*) echo '"coco: all/beam 3, length penalty 0.8"' ;;
    *penalty*) echo '"test/beam 3, length penalty 0.8"' ;;
    esac >> "$2/record.json" ;;
esac
"""


def test_the_script_trains_scores_and_goes_on(tmp_path):
    (tmp_path / "results/flickr8k/records").mkdir(parents=True)
    for name, text in {"growprune": STUB, "python": '#!/bin/sh\necho "$*" >> "$LOG"\n'}.items():
        (tmp_path / "bin" / name).parent.mkdir(exist_ok=True)
        (tmp_path / "bin" / name).write_text(text)
        (tmp_path / "bin" / name).chmod(0o755)
    log = tmp_path / "log"
    environment = {
        "PATH": f"{tmp_path / 'bin'}:{os.environ['PATH']}", "LOG": str(log), "COCO": "../coco",
        "RECIPES": "neuraltalk-lstm neuraltalk-hlstm-small", "DISTILL": "2.0",
        "TEACHERS": "neuraltalk-lstm-seed0 neuraltalk-lstm-seed1",
    }  # fmt: skip

    def said():
        log.write_text("")
        command = ["sh", str(SCRIPT), "../fk", "features", "runs", "0", "1"]
        subprocess.run(command, cwd=tmp_path, env=environment, check=True)
        return log.read_text().splitlines()

    lines = said()
    assert lines[0] == "data features ../coco -o runs/coco-features"
    taught = [line for line in lines if "small" in line and line.startswith("train")]
    teachers = "['runs/neuraltalk-lstm-seed0', 'runs/neuraltalk-lstm-seed1']"
    assert taught[1] == (
        "train neuraltalk-hlstm-small --data ../fk --features features "
        "--out runs/neuraltalk-hlstm-small-seed1 --seed 1 --resume "
        f"--set loss.teachers={teachers} --set loss.distill=2.0 --set loss.temperature=1.0"
    )
    searches = ["", " --beam 3", " --beam 3 --length-penalty 0.8"]
    other = " --data ../coco --features runs/coco-features --split all"
    assert lines[1:8] == [
        "train neuraltalk-lstm --data ../fk --features features --out runs/neuraltalk-lstm-seed0 "
        "--seed 0 --resume",
        *(f"evaluate runs/neuraltalk-lstm-seed0{search}" for search in searches),
        *(f"evaluate runs/neuraltalk-lstm-seed0{other}{search}" for search in searches),
    ]
    records = sorted(path.name for path in (tmp_path / "results/flickr8k/records").iterdir())
    assert records == [f"{r}-seed{s}.json" for r in sorted(environment["RECIPES"].split())
                       for s in (0, 1)]  # fmt: skip
    assert lines[-1].endswith("neuraltalk-lstm-seed1.json --out results/flickr8k")
    assert len(lines) == 2 + 4 * 7
    del environment["TEACHERS"]
    taught = [line for line in said() if line.startswith("train")]
    settings = (
        "training.epochs=10",
        "model.inject=pre",
        "model.dropout=0.4",
        "loss.self_critical_epochs=0",
        "training.optimizer.final_epochs=0",
    )
    for number in (1, 2):
        assert taught[1 + number] == (
            f"train neuraltalk-lstm --data ../fk --features features --out "
            f"runs/unrewarded-lstm-seed{number} --seed {number} --resume"
            + "".join(f" --set {setting}" for setting in settings)
        )
    assert "['runs/unrewarded-lstm-seed1', 'runs/unrewarded-lstm-seed2']" in taught[-1]
    environment["TEACHERS"] = "neuraltalk-lstm-seed0 neuraltalk-lstm-seed1"
    again = said()
    assert [line.split()[0] for line in again[:-1]] == ["train"] * 4  # what is scored stays so
