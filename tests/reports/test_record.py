import json

import pytest

from growprune.errors import CheckpointError
from growprune.reports.record import (
    check_record,
    group_by_recipe,
    read_record,
    read_records,
)


def test_record_is_read_as_written(make_run):
    record = read_record(make_run("a", seed=7))
    assert (record.name, record.seed, record.data.splits["train"].utterances) == ("base", 7, 850)
    assert record.epochs[2].dev_wer == 0.25
    assert record.epochs[2].density is None
    assert record.matrices[1].shape == (2, 3, 5)


def test_missing_record_names_file_and_remedy(tmp_path):
    with pytest.raises(CheckpointError) as caught:
        read_record(tmp_path / "nowhere")
    assert str(tmp_path / "nowhere" / "record.json") in str(caught.value)
    assert "--resume" in str(caught.value)


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"{", "not JSON"),
        (b"\xff\xfe\xff", "not JSON"),
        (b"[1]", "the record"),
        (b"{}", "format: Field required"),
    ],
)
def test_damaged_file_is_one_readable_line(tmp_path, content, reason):
    (tmp_path / "record.json").write_bytes(content)
    with pytest.raises(CheckpointError) as caught:
        read_record(tmp_path)
    assert str(caught.value).startswith(f"{tmp_path / 'record.json'}: ")
    assert reason in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("change", "place"),
    [
        ({"format": 2}, "format"),
        ({"seed": "zero"}, "seed"),
        ({"cost": {"weights": {}}}, "cost.weights.recurrent"),
        (
            {"matrices": [{"name": "w", "shape": [3], "active": 1, "density": 1}]},
            "matrices.0.shape",
        ),
    ],
)
def test_damaged_value_is_named(make_record, change, place):
    with pytest.raises(CheckpointError, match=rf"here: .*\({place}: "):
        check_record(make_record(**change), "here")


def test_directory_in_place_of_the_record(tmp_path):
    (tmp_path / "record.json").mkdir()
    with pytest.raises(CheckpointError, match="cannot be read"):
        read_record(tmp_path)


def test_runs_that_differ_only_in_the_seed_are_one_group(make_record):
    on_gpu = {"name": "a", "training": {"epochs": 4, "accelerator": "cuda"}}
    records = [
        check_record(make_record(**changes), "here")
        for changes in (
            {"name": "a", "seed": 0},
            {"name": "b", "seed": 0},
            {"name": "a", "seed": 1, "seconds": 9.0},
            {"name": "a", "seed": 2, "recipe": {"name": "a", "training": {"epochs": 4}}},
            {"name": "a", "seed": 0, "data": {"name": "other", "splits": {}}},
            {"name": "a", "seed": 3, "recipe": on_gpu},
        )
    ]
    groups = group_by_recipe(records)
    members = {name: [(r.name, r.seed) for r in runs] for name, runs in groups.items()}
    assert members == {
        "a": [("a", 0), ("a", 1)],
        "b": [("b", 0)],
        "a (2)": [("a", 2), ("a", 3)],
        "a (3)": [("a", 0)],
    }


def test_records_of_several_ages_are_of_one_recipe_with_its_defaults(make_record, tmp_path):
    recipe = {"name": "a", "training": {"epochs": 4}}
    paths = []
    for seed, young in enumerate(({}, {"warp": 0}, {"warp": 1})):
        paths.append(tmp_path / f"{seed}.json")
        record = make_record(name="a", seed=seed, recipe=recipe | young)
        paths[-1].write_text(json.dumps(record))
    groups = group_by_recipe(read_records(paths, lambda recipe: {"warp": 0} | dict(recipe)))
    assert {name: [r.seed for r in runs] for name, runs in groups.items()} == {
        "a": [0, 1], "a (2)": [2],
    }  # fmt: skip


def test_record_survives_json(make_record):
    record = make_record()
    assert check_record(json.loads(json.dumps(record)), "here") == check_record(record, "here")
