"""The recognisers of the recipes, packed, against torch on batches of uneven utterances."""

import json

import numpy as np
import pytest
import torch

from growprune import pipelines, runtime
from growprune.data import load_audio, open_corpus
from growprune.sparsity import GrowPrune, Plan
from growprune.tasks import open_recipe
from growprune.tasks.speech.model import build_model
from growprune.tasks.speech.packing import pack_model, pack_run, speech_info
from growprune.training import save_local, write_record
from growprune.training.checkpoint import save_weights

SMALL = {
    "an4-hlstm-gp": [
        "model.recurrent.hidden_size=21",
        "model.recurrent.gate_hidden_sizes=[18]",
        "data.features.bands=20",
    ],
    "an4-hlstm-gp-streaming": ["model.recurrent.hidden_size=21", "data.features.bands=20"],
    "deepspeech2-an4": ["model.recurrent.hidden_size=12", "model.recurrent.layers=3"],
}
GRU = [
    "model.recurrent.cell=gru",
    "model.recurrent.gate_hidden_sizes=[]",
    "model.recurrent.gate_dropout=0.0",
]
MODELS = [*((name, []) for name in SMALL), *((name, GRU) for name in SMALL)]


def small_model(name, cell=()):
    """The recipe with small sizes, and its model with weights and statistics that matter."""
    recipe = open_recipe(name, [*SMALL[name], *cell])
    torch.manual_seed(0)
    model = build_model(recipe).eval()
    with torch.no_grad():
        for key, tensor in model.state_dict().items():
            if "norm" in key and tensor.is_floating_point():
                tensor.add_(0.3 * torch.rand_like(tensor))
    return recipe, model


def pruned(model, density, granularity):
    plan = Plan.model_validate({"seed_density": density, "granularity": granularity})
    return GrowPrune(model, torch.optim.SGD(model.parameters(), lr=0.1), plan).masks


def uneven_batch(recipe):
    features = torch.randn(4, 67, recipe.data.features.columns)
    return features, torch.tensor([67, 31, 9, 50])


@pytest.mark.parametrize(("name", "cell"), MODELS)
@pytest.mark.parametrize("density", [0.3, 1.0])
def test_packed_recognisers_score_as_torch_does(name, cell, density):
    recipe, model = small_model(name, cell)
    masks = pruned(model, density, "block" if name == "deepspeech2-an4" else "weight")
    features, lengths = uneven_batch(recipe)
    with torch.no_grad():
        expected, expected_lengths = model(features, lengths)
    packed = pack_model(model, recipe.data.features.columns, masks)
    noisy = features.numpy().copy()
    noisy[np.arange(67) >= lengths.numpy()[:, None]] = np.inf
    found, found_lengths = packed.model().run(noisy, lengths.numpy())
    assert found_lengths.tolist() == expected_lengths.tolist()
    for row, length in enumerate(expected_lengths):
        wanted = expected[row, :length].numpy()
        np.testing.assert_allclose(
            found[row, :length], wanted, rtol=0, atol=1e-5 * np.abs(wanted).max()
        )
    active = {choice.name: choice.active for choice in packed.choices}
    assert active == {key: int(mask.sum()) for key, mask in masks.items()}
    operations = {node.op for node in packed.contents.nodes}
    assert operations & {"lstm", "gru"} == {"gru" if cell else "lstm"}


@pytest.mark.parametrize(("name", "cell"), MODELS)
def test_company_and_padding_do_not_matter(name, cell):
    recipe, model = small_model(name, cell)
    packed = pack_model(model, recipe.data.features.columns).model()
    features, lengths = uneven_batch(recipe)
    together, counts = packed.run(features.numpy(), lengths.numpy())
    for row, length in enumerate(lengths):
        alone, _ = packed.run(features[row : row + 1, :length].numpy())
        np.testing.assert_allclose(together[row, : counts[row]], alone[0], rtol=0, atol=1e-5)


def test_batch_norms_of_deepspeech2_fold_away():
    recipe, model = small_model("deepspeech2-an4")
    packed = pack_model(model, recipe.data.features.columns)
    operations = [node.op for node in packed.contents.nodes]
    assert "affine" not in operations
    assert operations.count("convolution") == operations.count("hardtanh") == 2
    assert operations.count("add") == 3


@pytest.mark.parametrize("cell", [[], GRU])
def test_the_streaming_recipe_streams(cell):
    recipe, model = small_model("an4-hlstm-gp-streaming", cell)
    packed = pack_model(model, recipe.data.features.columns).model()
    features = torch.randn(1, 67, 20).numpy()
    whole, _ = packed.run(features)
    stream = packed.stream()
    pieces = [stream.push(piece) for piece in np.array_split(features, 20, axis=1)]
    early = sum(piece.shape[1] for piece in pieces)
    assert early == whole.shape[1]  # nothing looks ahead, so nothing is left for the end
    np.testing.assert_allclose(np.concatenate([*pieces, stream.finish()], 1), whole, atol=1e-5)
    with pytest.raises(ValueError, match=r"front_end\.blocks\.0\.convolution' does not give"):
        packed.step(features[:, 0])


def test_other_recipes_say_why_they_cannot_stream():
    recipe, model = small_model("an4-hlstm-gp")
    packed = pack_model(model, recipe.data.features.columns).model()
    with pytest.raises(ValueError, match="l0_reverse' reads the sequence from its end; use run"):
        packed.stream()


def test_a_packed_recogniser_describes_itself():
    recipe, model = small_model("an4-hlstm-gp-streaming")
    info = speech_info(model, recipe)
    assert json.loads(json.dumps(info)) == info
    assert info["letters"] == recipe.data.letters
    assert info["stride"] == 4
    assert info["frames_per_second"] == 25.0
    assert info["causal"] is True
    assert info["features"]["normalise"] == "running"
    packed = pack_model(model, recipe.data.features.columns, info=info).model()
    assert pipelines.Recognizer(packed).speech.letters == recipe.data.letters


def finished_run(folder):
    recipe, model = small_model("an4-hlstm-gp")
    masks = pruned(model, 0.4, "weight")
    model.recurrent.layers[0].negative_slope = 0.0
    save_weights(folder, model, masks, recipe.model_dump(mode="json"))
    save_local(folder, {"data": "nowhere", "seed": 5})
    return model, masks


def test_a_run_is_packed_with_its_provenance(tmp_path):
    model, _ = finished_run(tmp_path)
    write_record(tmp_path, {"format": 1, "commit": "abc"})
    packed = pack_run(tmp_path, info={"language_model": {"order": 2}})
    packed.save(tmp_path / "model.safetensors")
    loaded = runtime.load(tmp_path / "model.safetensors")
    assert loaded.info["provenance"] == {"recipe": "an4-hlstm-gp", "seed": 5, "commit": "abc"}
    assert loaded.info["language_model"] == {"order": 2}
    assert loaded.info["task"] == "speech"
    features = torch.randn(1, 40, 20)
    with torch.no_grad():
        expected, _ = model.eval()(features, torch.tensor([40]))
    np.testing.assert_allclose(loaded.run(features.numpy())[0], expected.numpy(), atol=1e-5)
    slopes = {n.name: n.attributes["slope"] for n in packed.contents.nodes if n.op == "lstm"}
    assert slopes["recurrent.layers.0.l0"] == 0.0
    assert slopes["recurrent.layers.1.l0"] == pytest.approx(0.01)


def test_a_run_without_a_record_has_no_commit(tmp_path):
    finished_run(tmp_path)
    assert pack_run(tmp_path).contents.info["provenance"]["commit"] is None


def test_real_speech_is_heard_the_same(real_data):
    """A model without training writes nonsense, but the same nonsense packed and not."""
    recipe, model = small_model("an4-hlstm-gp")
    packed = pack_model(
        model, recipe.data.features.columns, info=speech_info(model, recipe)
    ).model()
    from growprune.tasks.speech import Recognizer

    slow, fast = Recognizer(model, recipe), pipelines.Recognizer(packed)
    for row in open_corpus(real_data / "an4").split("dev")[:5]:
        wave = load_audio(row.audio, 16_000)
        expected, found = slow.log_probs(wave), fast.log_probs(wave)
        np.testing.assert_allclose(found, expected, rtol=0, atol=1e-5 * np.abs(expected).max())
        assert fast.decode(found).text == slow.decode(expected).text
