import pytest
import torch
from pydantic import ValidationError
from torch import nn

from growprune.metrics import totals
from growprune.tasks import open_recipe
from growprune.tasks.speech import SpeechModel
from growprune.tasks.speech.model import FrameGRU, build_model
from growprune.tasks.speech.settings import ModelSettings, RecurrentSettings


def settings(bidirectional=True, norm="batch", convolutions=None, **recurrent):
    convolutions = convolutions or [
        {"channels": 5, "kernel": [3], "stride": [2]},
        {"channels": 6, "kernel": [4], "stride": [2]},
    ]
    return ModelSettings.model_validate(
        {
            "front_end": {"norm": norm, "convolutions": convolutions},
            "recurrent": {
                "layers": 2,
                "hidden_size": 4,
                "bidirectional": bidirectional,
                "norm": norm,
                "gate_hidden_sizes": [3],
            }
            | recurrent,
        }
    )


IMAGE = [
    {"channels": 3, "kernel": [4, 5], "stride": [2, 2]},
    {"channels": 2, "kernel": [2, 3], "stride": [1, 1]},
]


LSTM = {"gate_hidden_sizes": [3]}
GRU = {"cell": "gru", "gate_hidden_sizes": []}


@pytest.mark.parametrize("cell", [LSTM, GRU], ids=["lstm", "gru"])
@pytest.mark.parametrize("norm", ["batch", "layer"])
@pytest.mark.parametrize("merge", ["concatenate", "sum"])
@pytest.mark.parametrize("convolutions", [None, IMAGE])
@pytest.mark.parametrize("training", [True, False])
def test_padding_never_changes_a_result(cell, norm, merge, convolutions, training):
    torch.manual_seed(0)
    sizes = settings(norm=norm, merge=merge, convolutions=convolutions, **cell)
    model = SpeechModel(sizes, 10, 7)
    model.double().train(training)
    features, lengths = torch.randn(3, 23, 10, dtype=torch.float64), torch.tensor([23, 9, 14])
    noisy = torch.cat([features, torch.full((3, 6, 10), 99.0)], dim=1)
    for row, length in enumerate(lengths):
        noisy[row, length:] = torch.randn(29 - length, 10)
    clean, clean_lengths = model(features, lengths)
    padded, padded_lengths = model(noisy, lengths)
    assert torch.equal(clean_lengths, padded_lengths)
    for row, length in enumerate(clean_lengths):
        torch.testing.assert_close(padded[row, :length], clean[row, :length], rtol=0, atol=2e-7)


@pytest.mark.parametrize("cell", [LSTM, GRU], ids=["lstm", "gru"])
def test_in_inference_company_does_not_matter(cell):
    torch.manual_seed(0)
    model = SpeechModel(settings(**cell), 10, 7).double().eval()
    features, lengths = torch.randn(3, 23, 10, dtype=torch.float64), torch.tensor([23, 9, 14])
    together, output_lengths = model(features, lengths)
    for row, length in enumerate(lengths):
        alone, _ = model(features[row : row + 1, :length], length[None])
        assert alone.shape[1] == output_lengths[row] == model.output_length(int(length))
        torch.testing.assert_close(together[row, : output_lengths[row]], alone[0])


@pytest.mark.parametrize("bidirectional", [False, True])
def test_a_batch_of_a_gru_equals_torchs_on_each_utterance(bidirectional):
    torch.manual_seed(0)
    sizes = {"batch_first": True, "bidirectional": bidirectional, "dtype": torch.float64}
    batched, alone = FrameGRU(5, 4, **sizes), nn.GRU(5, 4, **sizes)
    alone.load_state_dict(batched.state_dict())
    x, lengths = torch.randn(4, 9, 5, dtype=torch.float64), torch.tensor([3, 8, 1, 5])
    factors = torch.randn(4, 9, batched.hidden_size * (1 + bidirectional), dtype=torch.float64)
    found, states = batched(x, lengths)
    assert found.shape == factors.shape
    (found * factors).sum().backward()
    for row, length in enumerate(lengths):
        wanted, state = alone(x[row : row + 1, :length])
        torch.testing.assert_close(found[row, :length], wanted[0])
        torch.testing.assert_close(states[:, row], state[:, 0])
        assert not found[row, length:].any()
        (wanted * factors[row, :length]).sum().backward()
    for one, other in zip(batched.parameters(), alone.parameters(), strict=True):
        torch.testing.assert_close(one.grad, other.grad)


@pytest.mark.parametrize("deep", [{"gate_hidden_sizes": [3]}, {"gate_dropout": 0.1}])
def test_a_gru_has_no_hidden_gate_layers(deep):
    with pytest.raises(ValidationError, match="a GRU's gates have no hidden layers; set gate_hid"):
        RecurrentSettings.model_validate({"cell": "gru", "layers": 1, "hidden_size": 4} | deep)


def test_batch_norm_sees_valid_frames_only():
    from growprune.tasks.speech.model import FrameBatchNorm

    norm = FrameBatchNorm(2, momentum=1.0)
    x = torch.tensor([[[1.0, 5.0], [3.0, 7.0], [100.0, 100.0]]])
    out = norm(x, torch.tensor([2]))
    torch.testing.assert_close(
        out, torch.tensor([[[-1.0, -1.0], [1.0, 1.0], [0, 0]]]), atol=1e-5, rtol=0
    )
    torch.testing.assert_close(norm.running_mean, torch.tensor([2.0, 6.0]))


@pytest.mark.parametrize("cell", [LSTM, GRU], ids=["lstm", "gru"])
@pytest.mark.parametrize("convolutions", [None, IMAGE])
def test_a_unidirectional_model_does_not_look_ahead(convolutions, cell):
    torch.manual_seed(0)
    model = SpeechModel(settings(False, "layer", convolutions, **cell), 10, 7).double().eval()
    features = torch.randn(1, 24, 10, dtype=torch.float64)
    changed = features.clone()
    changed[:, 16:] += 1.0
    before, _ = model(features, torch.tensor([24]))
    after, _ = model(changed, torch.tensor([24]))
    seen = 16 // model.stride
    torch.testing.assert_close(before[:, :seen], after[:, :seen], rtol=0, atol=0)
    assert not torch.allclose(before[:, seen:], after[:, seen:])


@pytest.mark.parametrize("cell", [LSTM, GRU], ids=["lstm", "gru"])
def test_log_probabilities_sum_to_one_and_every_weight_gets_a_gradient(cell):
    torch.manual_seed(0)
    model = SpeechModel(settings(**cell), 10, 7)
    log_probs, _ = model(torch.randn(2, 20, 10), torch.tensor([20, 12]))
    torch.testing.assert_close(log_probs.exp().sum(-1), torch.ones(2, 5))
    log_probs[0, :, 0].sum().backward()
    assert all(
        p.grad is not None and p.grad.abs().sum() > 0
        for n, p in model.named_parameters()
        if "output" in n
    )
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None, name


def test_every_layer_is_read_as_if_it_were_the_last():
    torch.manual_seed(0)
    model = SpeechModel(settings(norm="layer"), 10, 7).eval()
    features, lengths = torch.randn(2, 20, 10), torch.tensor([20, 12])
    layers, frames = model(features, lengths, every_layer=True)
    assert layers.shape == (2, 2, 5, 7)
    torch.testing.assert_close(layers[1], model(features, lengths)[0])
    del model.recurrent.layers[1], model.recurrent.norms[1]
    alone, same_frames = model(features, lengths)
    torch.testing.assert_close(layers[0], alone)
    assert frames.tolist() == same_frames.tolist() == [5, 3]


def test_the_papers_deepspeech2_has_its_size():
    with torch.device("meta"):
        model = build_model(open_recipe("deepspeech2-an4"))
    cells = sum(p.numel() for n, p in model.named_parameters() if n.startswith("recurrent.layers"))
    first = 2 * 4 * 800 * (672 + 800 + 2)
    others = 4 * 2 * 4 * 800 * (800 + 800 + 2)
    assert model.front_end.output_size == 672
    assert cells == first + others == 50_444_800


def test_compared_dense_models_have_like_weights():
    sizes = {}
    for name in ("an4-lstm", "an4-hlstm-gp"):
        with torch.device("meta"):
            sizes[name] = sum(p.numel() for p in build_model(open_recipe(name)).parameters())
    assert 0 <= sizes["an4-lstm"] / sizes["an4-hlstm-gp"] - 1 < 0.08


@pytest.mark.parametrize(("cell", "gates"), [("lstm", 4), ("gru", 3)])
def test_operations_count_active_connections_and_uses(cell, gates):
    model = SpeechModel(settings(layers=1, cell=cell, gate_hidden_sizes=[]), 10, 7)
    kept = {"output.weight": torch.zeros(7, 8, dtype=torch.bool)}
    kept["output.weight"][0, :3] = True
    rows = {row.name: row for row in model.operations(kept, frames_per_second=100.0)}
    assert set(rows) == {name for name, _ in model.named_parameters()}
    first, second = (rows[f"front_end.blocks.{i}.convolution.weight"] for i in (0, 1))
    assert (first.active, first.uses) == (10 * 5 * 3, 50.0)
    assert (second.active, second.uses) == (5 * 6 * 4, 25.0)
    assert (rows["output.weight"].active, rows["output.weight"].weights) == (3, 56)
    assert rows["recurrent.layers.0.weight_hh_l0"].uses == 25.0
    assert rows["recurrent.layers.0.bias_ih_l0"].uses == 0.0
    cost = totals(rows.values(), "second")
    cells = 2 * (gates * 4 * 6 + gates * 4 * 4)
    assert cost["weights"]["recurrent"] == cells + 2 * 2 * gates * 4
    assert cost["flops_per_second"]["recurrent"] == 2 * 25 * cells
    assert cost["flops_per_second"]["whole"] == 2 * (25 * cells + 50 * 150 + 25 * 120 + 25 * 3)
    assert cost["weights"]["whole_dense"] - cost["weights"]["whole"] == 56 - 3


def test_images_are_used_once_per_position():
    model = SpeechModel(settings(convolutions=IMAGE), 10, 7)
    rows = {row.name: row for row in model.operations({}, 100.0)}
    assert model.front_end.positions == [4, 3]
    assert rows["front_end.blocks.0.convolution.weight"].uses == 50 * 4
    assert rows["front_end.blocks.1.convolution.weight"].uses == 50 * 3


def test_a_kernel_wider_than_the_features_is_named():
    wide = [{"channels": 2, "kernel": [11, 3], "stride": [1, 1]}]
    with pytest.raises(ValueError, match="kernel of 11 bands does not fit 10 bands"):
        SpeechModel(settings(convolutions=wide), 10, 7)
