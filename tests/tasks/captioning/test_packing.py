"""The decoders of the recipes, packed: their networks, sizes and provenance."""

import json

import numpy as np
import pytest
import torch
from safetensors import safe_open
from small_captioners import KINDS, WIDTH, WORDS, features, pack, packed, wordy

from growprune import pipelines, runtime
from growprune.errors import CheckpointError, RecipeError
from growprune.tasks import PACKERS, open_run, pack_run
from growprune.tasks.captioning import Captioner
from growprune.tasks.captioning.packing import captioner_info
from growprune.training import save_local, write_record
from growprune.training.checkpoint import save_weights


def run_through(captioner, x, ids):
    """Log-probabilities `(batch, 1 + time, words)` of a packed captioner, step by step."""
    scores, state = captioner.begin(x)
    rows = [scores]
    for words in ids.T:
        scores, state = captioner.step(words, state)
        rows.append(scores)
    return np.stack(rows, axis=1)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("density", [1.0, 0.3])
def test_packed_networks_score_as_teacher_forcing_does(kind, density):
    trained = wordy(kind, density)
    x, ids = features(4), np.random.default_rng(0).integers(2, len(WORDS), (4, 6))
    with torch.inference_mode():
        lengths = torch.full((4,), 6)
        logits = trained.model(torch.from_numpy(x), torch.from_numpy(ids), lengths)
    wanted = logits.log_softmax(-1)
    found = run_through(packed(trained), x, ids)
    np.testing.assert_allclose(found, wanted.reshape(4, 7, len(WORDS)).numpy(), rtol=0, atol=1e-4)


@pytest.mark.parametrize("kind", KINDS)
def test_masks_decide_what_is_stored(kind):
    trained = wordy(kind, 0.3)
    packed = pack(trained, layout="csr")
    active = {choice.name: choice.active for choice in packed.choices}
    masks = {name: int(mask.sum()) for name, mask in trained.masks.items()}
    layouts = {choice.name: choice.layout for choice in packed.choices}
    if trained.model.settings.tied:
        masks["output.weight"] = masks.pop("embedding.weight")
    else:  # a table by itself stays whole
        assert layouts.pop("embedding.weight") == "dense"
    assert active == masks
    assert set(layouts.values()) == {"csr"}


def test_standardised_features_cost_nothing():
    packed = pack(wordy("two lstms, standardised"))
    assert [node.op for node in packed.contents.parts["image"].nodes] == ["linear"]
    packed = pack(wordy("h-lstm, layer norm"))
    assert [node.op for node in packed.contents.parts["image"].nodes] == ["layer_norm", "linear"]


def test_a_feature_that_never_varies_is_ignored():
    trained = wordy("two lstms, standardised")
    x = np.repeat(features(1), 2, axis=0)
    trained.model.normalise.scale[3] = 0.0
    x[1, 3] += 100
    image = pack(trained).model().parts["image"]
    first, second = image.step(x)[0]
    assert np.array_equal(first, second)


@pytest.mark.parametrize("weights", ["float32", "int8"])
@pytest.mark.parametrize("layout", ["dense", "csr", "blocks"])
def test_a_tied_matrix_is_stored_once(tmp_path, weights, layout):
    trained = wordy("three lstms, tied", 0.3)
    path = tmp_path / "x.safetensors"
    packed = pack(trained, layout=layout, weights=weights)
    assert "embedding.weight" not in [choice.name for choice in packed.choices]
    packed.save(path)
    with safe_open(path, framework="numpy") as file:
        stored = {name.split(":")[0] for name in file.keys()}  # noqa: SIM118
    assert "output.weight" in stored
    assert "embedding.weight" not in stored
    words = runtime.load(path).parts["words"]
    (table,) = words.matrices
    assert (table.name, table.shape, table.layout) == ("output.weight", (len(WORDS), 20), layout)
    wanted = trained.model.embedding.weight.detach().numpy()
    found, _ = words.step(np.arange(len(WORDS)))
    rounding = 0 if weights == "float32" else np.abs(wanted).max(1, keepdims=True) / 254
    assert (np.abs(found - wanted) <= rounding * (1 + 1e-5)).all()


def test_a_packed_captioner_describes_itself():
    trained = wordy()
    info = captioner_info(trained)
    assert json.loads(json.dumps(info)) == info
    assert info == {
        "task": "captioning",
        "words": list(WORDS),
        "encoder": {"name": "tiny", "pool": 1, "width": WIDTH},
        "longest": 9,
    }


def finished_run(folder):
    trained = wordy("h-lstm, layer norm", 0.3, slope=0.0)
    extras = {"words": list(WORDS), "encoder": trained.encoder}
    recipe = trained.recipe.model_dump(mode="json")
    save_weights(folder, trained.model, trained.masks, recipe, extras)
    save_local(folder, {"data": "nowhere", "features": "nowhere", "seed": 5})
    return trained


def test_a_run_is_packed_with_its_provenance(tmp_path):
    trained = finished_run(tmp_path)
    write_record(tmp_path, {"format": 1, "commit": "abc"})
    path = tmp_path / "model.safetensors"
    packed = pack_run(tmp_path, layout="blocks", weights="float32", info={"note": "mine"})
    packed.save(path)
    captioner = pipelines.Captioner.load(path)
    assert captioner.model.info["provenance"] == {
        "recipe": "neuraltalk-lstm", "seed": 5, "commit": "abc",
    }  # fmt: skip
    assert captioner.model.info["note"] == "mine"
    wanted, found = (c.caption(features(3)) for c in (trained, captioner))
    assert [caption.text for caption in found] == [caption.text for caption in wanted]
    (lstm,) = (node for node in packed.contents.nodes if node.op == "lstm")
    assert lstm.attributes["slope"] == 0.0
    assert {choice.layout for choice in packed.choices} == {"blocks", "dense"}


def test_runs_are_opened_and_packed_by_their_task(tmp_path):
    trained = finished_run(tmp_path)
    assert set(PACKERS) == {"captioning", "speech"}
    captioner = open_run(tmp_path)
    assert isinstance(captioner, Captioner)
    assert captioner.vocabulary == trained.vocabulary
    assert pack_run(tmp_path, layout="auto", weights="float32").contents.info["provenance"] == {
        "recipe": "neuraltalk-lstm", "seed": 5, "commit": None,
    }  # fmt: skip
    recipe = trained.recipe.model_dump(mode="json") | {"task": "cooking"}
    save_weights(tmp_path, trained.model, {}, recipe, {})
    for use in (open_run, lambda run: pack_run(run, layout="auto", weights="float32")):
        with pytest.raises(RecipeError, match="task is 'cooking'"):
            use(tmp_path)
    with pytest.raises(CheckpointError, match="not a run"):
        open_run(tmp_path / "none")


def test_options_are_checked():
    with pytest.raises(ValueError, match="layout must be auto or one of"):
        pack(wordy(), layout="coo")
    trained = wordy()
    trained.masks = {"recurrent.weight_ih_l7": torch.ones(1, dtype=torch.bool)}
    with pytest.raises(ValueError, match="which is no parameter"):
        pack(trained)
