import json

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from growprune.errors import CheckpointError, DataError, TrainingError
from growprune.training import load_weights
from growprune.training.checkpoint import (
    load_checkpoint,
    load_local,
    save_checkpoint,
    save_local,
    save_weights,
)
from growprune.training.record import read


def model():
    return nn.Sequential(nn.Linear(3, 2), nn.LeakyReLU(0.25))


def test_weights_come_back_with_masks_slopes_and_recipe(tmp_path):
    saved, masks = model(), {"0.weight": torch.tensor([[True, False, True], [False, True, True]])}
    save_weights(tmp_path, saved, masks, {"name": "x"})
    weights = load_weights(tmp_path)
    assert weights.recipe == {"name": "x"}
    assert torch.equal(weights.masks["0.weight"], masks["0.weight"])
    other = nn.Sequential(nn.Linear(3, 2), nn.LeakyReLU(0.5))
    weights.load_into(other, tmp_path)
    assert other[1].negative_slope == 0.25
    assert torch.equal(other[0].weight, saved[0].weight)


def test_tied_weights_come_back_tied(tmp_path):
    saved, loaded = tied(), tied()
    save_weights(tmp_path, saved, {}, {})
    load_weights(tmp_path).load_into(loaded, "x")
    assert loaded[0].weight is loaded[1].weight
    assert torch.equal(loaded[0].weight, saved[0].weight)


def tied():
    pair = nn.Sequential(nn.Embedding(4, 3), nn.Linear(3, 4))
    pair[1].weight = pair[0].weight
    return pair


def test_weights_of_another_model_are_refused(tmp_path):
    save_weights(tmp_path, model(), {}, {})
    with pytest.raises(CheckpointError, match=r"do not fit the recipe's model \(size mismatch"):
        load_weights(tmp_path).load_into(nn.Sequential(nn.Linear(4, 2)), tmp_path)


def test_files_that_are_not_weights_are_refused(tmp_path):
    with pytest.raises(CheckpointError, match="no such file"):
        load_weights(tmp_path)
    (tmp_path / "weights.safetensors").write_bytes(b"\x80\x04 not tensors")
    with pytest.raises(CheckpointError, match="cannot be used"):
        load_weights(tmp_path)
    save_file({"a": torch.zeros(1)}, tmp_path / "weights.safetensors")
    with pytest.raises(CheckpointError, match="not written by a run"):
        load_weights(tmp_path)
    details = {"kind": "growprune run, format 1", "recipe": "{", "negative_slopes": "{}"}
    save_file({"a": torch.zeros(1)}, tmp_path / "weights.safetensors", metadata=details)
    with pytest.raises(CheckpointError, match="cannot be used"):
        load_weights(tmp_path)


def test_a_checkpoint_is_never_unpickled_as_code(tmp_path):
    class Attack:
        def __reduce__(self):
            return (print, ("attacked",))

    torch.save({"model": Attack()}, tmp_path / "checkpoint.pt")
    with pytest.raises(CheckpointError, match="damaged or not a checkpoint"):
        load_checkpoint(tmp_path)


@pytest.mark.parametrize("content", [b"", b"garbage", b"PK\x03\x04 cut short"])
def test_a_damaged_checkpoint_is_refused(tmp_path, content):
    (tmp_path / "checkpoint.pt").write_bytes(content)
    with pytest.raises(CheckpointError, match="damaged or not a checkpoint"):
        load_checkpoint(tmp_path)


def test_weights_that_are_not_finite_never_replace_a_good_checkpoint(tmp_path):
    good = model()
    save_checkpoint(tmp_path, {"model": good.state_dict()})
    bad = model()
    nn.init.constant_(bad[0].bias, float("inf"))
    with pytest.raises(TrainingError, match=r"weights of 0.bias are not finite"):
        save_checkpoint(tmp_path, {"model": bad.state_dict()})
    kept = load_checkpoint(tmp_path)["model"]
    assert torch.equal(kept["0.weight"], good[0].weight)


def test_local_settings_and_records_that_cannot_be_read_say_so(tmp_path):
    save_local(tmp_path, {"data": "here"})
    assert load_local(tmp_path) == {"data": "here"}
    (tmp_path / "run.json").write_text("[1]")
    with pytest.raises(CheckpointError, match="not a run's settings"):
        load_local(tmp_path)
    with pytest.raises(CheckpointError, match="is not a finished run"):
        read(tmp_path)
    (tmp_path / "record.json").write_text(json.dumps({"format": 99}))
    with pytest.raises(CheckpointError, match="not a run record of format 1"):
        read(tmp_path)


@pytest.mark.parametrize("name", ["checkpoint.pt", "weights.safetensors"])
def test_a_full_disk_is_named_and_the_old_file_stays(tmp_path, small_disk, name):
    (tmp_path / name).write_bytes(b"old")
    big = nn.Linear(50, 50)
    write = {
        "checkpoint.pt": lambda: save_checkpoint(tmp_path, {"model": big.state_dict()}),
        "weights.safetensors": lambda: save_weights(tmp_path, big, {}, {}),
    }
    with pytest.raises(DataError, match=rf"{name}: cannot be written"):
        write[name]()
    assert [entry.name for entry in tmp_path.iterdir()] == [name]
    assert (tmp_path / name).read_bytes() == b"old"
