"""Packed layers against torch's, over layouts, densities, granularities and odd sizes."""

import numpy as np
import pytest
import torch
from torch import nn

from growprune import export
from growprune.nn import HLSTM

RECURRENT = {
    "lstm": lambda **k: nn.LSTM(11, 19, batch_first=True, **k),
    "gru": lambda **k: nn.GRU(11, 19, batch_first=True, **k),
    "hlstm": lambda **k: HLSTM(11, 19, batch_first=True, gate_hidden_sizes=(17,), **k),
    "hlstm, gates of their own": lambda **k: HLSTM(
        11,
        19,
        batch_first=True,
        gate_hidden_sizes={"input": (7, 18), "cell": (33,), "output": (1, 2, 3)},
        negative_slope=0.0,
        **k,
    ),
}


class OutputsOnly(nn.Module):
    def __init__(self, layer):
        super().__init__()
        self.layer = layer

    def forward(self, x):
        output, _ = self.layer(x)
        return output


@pytest.mark.parametrize("density", [0.0, 1e-3, 0.026, 0.5, 1.0])
@pytest.mark.parametrize("granularity", ["weight", "block", "row", "column"])
@pytest.mark.parametrize("layout", ["auto", "dense", "csr", "blocks"])
def test_linear(assert_packs_alike, mask_module, density, granularity, layout):
    module = nn.Sequential(nn.Linear(45, 77), nn.Tanh(), nn.Linear(77, 3, bias=False))
    masks = mask_module(module, density, granularity)
    packed = assert_packs_alike(module, torch.randn(2, 5, 45), masks=masks, layout=layout)
    for choice in packed.choices:
        assert choice.active == int(masks[choice.name].sum())
        assert layout in ("auto", choice.layout)


@pytest.mark.parametrize("density", [0.0, 1e-3, 0.026, 0.5, 1.0])
@pytest.mark.parametrize("layout", ["auto", "dense", "csr", "blocks"])
@pytest.mark.parametrize("kind", RECURRENT)
def test_recurrent_by_density(assert_packs_alike, mask_module, kind, density, layout):
    module = OutputsOnly(RECURRENT[kind](bidirectional=True))
    granularity = ["weight", "block", "row", "column"][int(10 * density) % 4]
    masks = mask_module(module, density, granularity)
    assert_packs_alike(module, torch.randn(3, 6, 11), masks=masks, layout=layout)


@pytest.mark.parametrize("kind", RECURRENT)
@pytest.mark.parametrize("layers", [1, 3])
@pytest.mark.parametrize("bidirectional", [False, True])
@pytest.mark.parametrize("bias", [False, True])
def test_recurrent_by_form(assert_packs_alike, kind, layers, bidirectional, bias):
    layer = RECURRENT[kind](num_layers=layers, bidirectional=bidirectional, bias=bias)
    packed = assert_packs_alike(OutputsOnly(layer), torch.randn(2, 7, 11))
    kinds = [node.op for node in packed.contents.nodes]
    assert kinds.count("gru" if kind == "gru" else "lstm") == layers * (1 + bidirectional)


@pytest.mark.parametrize("kind", ["lstm", "gru"])
def test_ragged_recurrent(kind):
    """Against torch's packed sequences, one layer over another, in both directions."""
    torch.manual_seed(0)
    layer = RECURRENT[kind](num_layers=2, bidirectional=True)
    x, lengths = torch.randn(4, 9, 11), torch.tensor([4, 9, 1, 7])
    rows = nn.utils.rnn.pack_padded_sequence(x, lengths, batch_first=True, enforce_sorted=False)
    with torch.no_grad():
        expected, _ = nn.utils.rnn.pad_packed_sequence(layer(rows)[0], batch_first=True)
    noisy = x.numpy().copy()
    noisy[np.arange(9) >= lengths.numpy()[:, None]] = np.nan
    found, found_lengths = export.pack(OutputsOnly(layer)).model().run(noisy, lengths.numpy())
    np.testing.assert_allclose(found, expected.numpy(), rtol=0, atol=1e-6)
    assert found_lengths.tolist() == lengths.tolist()


def test_ragged_hlstm():
    torch.manual_seed(0)
    layer = RECURRENT["hlstm"](num_layers=2, bidirectional=True)
    x, lengths = torch.randn(4, 9, 11), [4, 9, 1, 7]
    with torch.no_grad():
        expected, _ = layer(x, lengths=lengths)
    found, _ = export.pack(OutputsOnly(layer)).model().run(x.numpy(), lengths)
    np.testing.assert_allclose(found, expected.numpy(), rtol=0, atol=1e-6)


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"stride": 3},
        {"padding": 2},
        {"padding": "same"},
        {"dilation": 2, "padding": 3, "stride": 2},
        {"groups": 5},
        {"kernel_size": 4, "padding": "same"},
        {"kernel_size": 1, "bias": False},
        {"kernel_size": 2, "stride": 5},
    ],
)
@pytest.mark.filterwarnings("ignore:Using padding='same' with even kernel lengths")
def test_conv1d(assert_packs_alike, mask_module, options):
    module = nn.Conv1d(**({"in_channels": 10, "out_channels": 35, "kernel_size": 3} | options))
    masks = mask_module(module, 0.3, "block")
    x = torch.randn(2, 10, 23)
    assert_packs_alike(module, x, order=(0, 2, 1), axes="bft", masks=masks)


@pytest.mark.parametrize("axes", ["bfft", "bftf"])
@pytest.mark.parametrize(
    "options",
    [
        {},
        {"stride": (2, 3)},
        {"padding": (1, 2), "dilation": (2, 1)},
        {"groups": 3, "stride": (1, 2), "padding": (0, 1)},
        {"padding": "same"},
    ],
)
def test_conv2d(assert_packs_alike, mask_module, axes, options):
    """Time may be either of the two axes."""
    module = nn.Conv2d(3, 18, (5, 4), **options)
    masks = mask_module(module, 0.4)
    time = axes.index("t")
    order = (0, time, *(place for place in (1, 2, 3) if place != time))
    sizes = [3, 12, 15]
    features = [size for place, size in enumerate(sizes, start=1) if place != time]
    x = torch.randn(2, *sizes)
    assert_packs_alike(module, x, order=order, axes=axes, features=features, masks=masks)


def test_long_convolution_is_computed_in_pieces(assert_packs_alike, monkeypatch):
    monkeypatch.setattr("growprune.runtime.layers._WINDOW_NUMBERS", 100)
    module = nn.Conv1d(4, 6, 5, stride=2, padding=2)
    assert_packs_alike(module, torch.randn(3, 4, 31), order=(0, 2, 1), axes="bft")


@pytest.mark.parametrize(
    "layer",
    [
        nn.ReLU(),
        nn.LeakyReLU(0.2),
        nn.Sigmoid(),
        nn.Tanh(),
        nn.Hardtanh(-0.5, 0.7),
        nn.ReLU6(),
        nn.GELU(),
        nn.GELU("tanh"),
        nn.SiLU(),
        nn.Softmax(-1),
        nn.LogSoftmax(-1),
        nn.LayerNorm(9),
        nn.LayerNorm(9, eps=0.1, elementwise_affine=False),
        nn.LayerNorm(9, bias=False),
        nn.Dropout(0.5),
        nn.Identity(),
    ],
    ids=str,
)
def test_layers_of_single_steps(assert_packs_alike, layer):
    x = 5 * torch.randn(3, 40, 9)
    assert_packs_alike(nn.Sequential(nn.Linear(9, 9), layer), x)


def test_an_activation_alone_needs_its_size(assert_packs_alike):
    assert_packs_alike(nn.Sigmoid(), torch.randn(2, 3, 4), features=[4])
    with pytest.raises(ValueError, match="does not tell the size of its input; give `features`"):
        export.pack(nn.Sigmoid())


def test_embedding():
    module = nn.Sequential(nn.Embedding(13, 6), nn.Linear(6, 2))
    ids = torch.randint(13, (3, 7))
    model = export.pack(module).model()
    found, _ = model.run(ids.numpy())
    np.testing.assert_allclose(found, module(ids).detach().numpy(), rtol=1e-6, atol=1e-6)
    found, _ = model.run(ids.numpy().astype(np.int32))
    with pytest.raises(ValueError, match="ids must lie in 0 to 12, got 0 to 13"):
        model.run(np.array([[0, 13]]))
    with pytest.raises(ValueError, match="ids must lie in 0 to 12, got -1 to 3"):
        model.run(np.array([[-1, 3]]))
    with pytest.raises(ValueError, match="x must hold integer numbers, got float64"):
        model.run(np.zeros((1, 2)))


@pytest.mark.parametrize("axes", ["bf", "bft"])
def test_batch_norm_disappears_into_its_neighbours(assert_packs_alike, axes):
    if axes == "bf":
        module = nn.Sequential(nn.Linear(5, 7), nn.BatchNorm1d(7), nn.ReLU(), nn.Linear(7, 2))
        packed = assert_packs_alike(module, torch.randn(4, 5), axes=axes)
        assert [node.op for node in packed.contents.nodes] == ["linear", "relu", "linear"]
    else:
        module = nn.Sequential(nn.Conv1d(5, 7, 3), nn.BatchNorm1d(7, affine=False), nn.ReLU())
        packed = assert_packs_alike(module, torch.randn(4, 5, 9), (0, 2, 1), axes=axes)
        assert [node.op for node in packed.contents.nodes] == ["convolution", "relu"]


@pytest.mark.parametrize(
    "layer", [nn.Linear(6, 4), nn.LSTM(6, 4, bidirectional=True), nn.GRU(6, 4)]
)
def test_batch_norm_disappears_into_what_follows(assert_packs_alike, layer):
    class Model(nn.Module):
        def __init__(self):
            super().__init__()
            self.norm, self.layer = nn.BatchNorm1d(6), layer

        def forward(self, x):
            x = self.norm(x.permute(1, 2, 0)).permute(2, 0, 1)
            x = self.layer(x)
            return x[0] if isinstance(layer, nn.LSTM | nn.GRU) else x

    packed = assert_packs_alike(Model(), torch.randn(5, 3, 6), (1, 0, 2), axes="tbf")
    assert "affine" not in [node.op for node in packed.contents.nodes]


def test_batch_norm_stays_where_folding_would_change_results(assert_packs_alike):
    """Before a padded convolution, beside another reader, on a shared weight, as the output."""
    before = nn.Sequential(nn.BatchNorm1d(5), nn.Conv1d(5, 7, 3, padding=1))
    packed = assert_packs_alike(before, torch.randn(2, 5, 9), (0, 2, 1), axes="bft")
    assert [node.op for node in packed.contents.nodes] == ["affine", "convolution"]

    class Twice(nn.Module):
        def __init__(self, shared):
            super().__init__()
            self.linear, self.norm, self.shared = nn.Linear(5, 5), nn.BatchNorm1d(5), shared

        def forward(self, x):
            y = self.linear(x)
            if self.shared:
                return self.linear(torch.relu(self.norm(y)))
            return self.norm(y) + y

    for shared in (True, False):
        packed = assert_packs_alike(Twice(shared), torch.randn(4, 5), axes="bf")
        assert "affine" in [node.op for node in packed.contents.nodes]
    packed = assert_packs_alike(nn.BatchNorm1d(5), torch.randn(4, 5), axes="bf")
    assert [node.op for node in packed.contents.nodes] == ["affine"]


def test_int8_keeps_a_batch_norm_that_would_scale_columns():
    """An input that hardly varies is scaled up a thousandfold; its column alone would be exact."""
    norm, linear = nn.BatchNorm1d(8), nn.Linear(8, 5)
    norm.running_var = torch.tensor([1e-6, *[1.0] * 7])
    module = nn.Sequential(norm, linear).eval()
    x = torch.randn(6, 8) * norm.running_var.sqrt()
    packed = export.pack(module, axes="bf", features=[8], weights="int8")
    with torch.no_grad():
        np.testing.assert_allclose(packed.model().step(x.numpy())[0], module(x), atol=0.02)


@pytest.mark.parametrize("layout", ["dense", "csr", "blocks"])
@pytest.mark.parametrize("density", [0.0, 0.1, 1.0])
def test_int8_stays_within_half_a_scale_of_each_weight(mask_module, layout, density):
    """`|y - y8| <= sum over active weights of |x| * scale / 2`, and only then may differ."""
    torch.manual_seed(0)
    module = nn.Linear(50, 37)
    masks = mask_module(module, density)
    x = torch.randn(4, 3, 50)
    exact = module(x).detach().numpy()
    packed = export.pack(module, masks, layout=layout, weights="int8")
    found, _ = packed.model().run(x.numpy())
    weight = module.weight.detach().numpy()
    scale = np.abs(weight).max(axis=1) / 127
    bound = np.abs(x.numpy()) @ (masks["weight"].numpy() * (scale[:, None] / 2)).T
    assert (np.abs(found - exact) <= bound * 1.001 + 1e-6).all()
    if density == 1.0:
        assert np.abs(found - exact).max() > 1e-4
    (info,) = packed.model().matrices
    assert info.weights == "int8"
    if layout == "dense":
        assert info.nbytes == 50 * 37 + 4 * 37


@pytest.mark.parametrize("kind", RECURRENT)
def test_int8_recurrent_layers_come_close(kind):
    torch.manual_seed(0)
    layer = RECURRENT[kind](num_layers=2, bidirectional=True)
    x = torch.randn(2, 12, 11)
    packed = export.pack(OutputsOnly(layer), weights="int8")
    found, _ = packed.model().run(x.numpy())
    with torch.no_grad():
        expected = layer(x)[0].numpy()
    assert 1e-6 < np.abs(found - expected).max() < 0.02


def test_int8_embedding():
    module = nn.Embedding(7, 5)
    found, _ = export.pack(module, weights="int8").model().run(np.arange(7)[None])
    weight = module.weight.detach().numpy()
    assert (np.abs(found[0] - weight) <= np.abs(weight).max(axis=1)[:, None] / 254 * 1.001).all()


def test_an_active_zero_stays_and_a_pruned_value_does_not():
    module = nn.Linear(4, 2, bias=False)
    with torch.no_grad():
        module.weight.copy_(torch.tensor([[1.0, 0.0, 3.0, 4.0], [5.0, 6.0, 7.0, 8.0]]))
    mask = torch.tensor([[True, True, False, False], [False, False, False, True]])
    packed = export.pack(module, {"weight": mask}, layout="csr")
    arrays = packed.contents.matrices["weight"].arrays
    assert arrays["values"].tolist() == [1.0, 0.0, 8.0]
    assert arrays["columns"].tolist() == [0, 1, 3]
    assert arrays["starts"].tolist() == [0, 2, 3]
    found, _ = packed.model().run(np.ones((1, 1, 4)))
    assert found[0, 0].tolist() == [1.0, 8.0]


def test_zeros_count_as_pruned_only_when_asked():
    module = nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 4))
    with torch.no_grad():
        for layer in module:
            layer.weight.copy_(torch.eye(4))
    masks = {"0.weight": torch.ones(4, 4, dtype=torch.bool)}
    active = {c.name: c.active for c in export.pack(module, masks).choices}
    assert active == {"0.weight": 16, "1.weight": 16}
    packed = export.pack(module, masks, zeros_are_pruned=True)
    assert {c.name: c.active for c in packed.choices} == {"0.weight": 16, "1.weight": 4}


def test_what_torch_has_pruned_is_understood(assert_packs_alike):
    module = nn.Sequential(nn.Linear(6, 8), nn.ReLU(), nn.Linear(8, 3))
    nn.utils.prune.l1_unstructured(module[0], "weight", 0.75)
    nn.utils.prune.ln_structured(module[2], "weight", 0.5, n=2, dim=1)
    packed = assert_packs_alike(module, torch.randn(2, 3, 6))
    assert [choice.active for choice in packed.choices] == [12, 12]
    lstm = OutputsOnly(nn.LSTM(6, 8, batch_first=True))
    nn.utils.prune.random_unstructured(lstm.layer, "weight_hh_l0", 0.5)
    active = {c.name: c.active for c in export.pack(lstm).choices}
    assert active == {"layer.weight_ih_l0": 192, "layer.weight_hh_l0": 128}


def test_tied_weights_share_their_mask():
    class Tied(nn.Module):
        def __init__(self):
            super().__init__()
            self.table, self.output = nn.Embedding(9, 4), nn.Linear(4, 9, bias=False)
            self.output.weight = self.table.weight

        def forward(self, x):
            return self.output(self.table(x))

    module = Tied()
    mask = torch.rand(9, 4) < 0.5
    with torch.no_grad():
        module.table.weight.mul_(mask)
    packed = export.pack(module, {"table.weight": mask}, layout="csr")
    assert {c.active for c in packed.choices} == {int(mask.sum())}
    ids = torch.arange(9)[None]
    found, _ = packed.model().run(ids.numpy())
    np.testing.assert_allclose(found, module(ids).detach().numpy(), atol=1e-6)


def test_other_dtypes_are_packed_as_float32():
    torch.manual_seed(0)
    module = nn.Linear(5, 3).double()
    x = torch.randn(1, 2, 5)
    found, _ = export.pack(module).model().run(x.numpy())
    np.testing.assert_allclose(found, module(x.double()).detach().numpy(), rtol=1e-5, atol=1e-6)
