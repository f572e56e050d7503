"""Outputs and every gradient of HLSTM against the slow reference in conftest.py."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from growprune.native import training
from growprune.native.training import dropout_kept
from growprune.nn import HLSTM

UNEQUAL = {"input": (3,), "cell": (2, 4), "output": (5, 3, 2)}
RAGGED = [2, 5, 1, 5]


def weighted_sum(tensors):
    """A scalar that every element of every tensor moves by its own amount."""
    return sum((t * torch.linspace(-1, 2, t.numel()).view_as(t)).sum() for t in tensors)


def gradients(tensors, inputs):
    return torch.autograd.grad(weighted_sum(tensors), inputs)


def run(layer, x, lengths, hx=None):
    outputs, (h, c) = layer(x, hx, lengths)
    return outputs, h, c


@pytest.mark.parametrize("sizes", [(), (3,), (4, 3), (3, 4, 2), UNEQUAL], ids=str)
@pytest.mark.parametrize(
    ("num_layers", "bidirectional", "bias", "lengths"),
    [
        (1, False, True, RAGGED),
        (1, True, True, RAGGED),
        (2, True, True, RAGGED),
        (3, False, False, RAGGED),
        (1, True, True, [5, 5, 5, 5]),
        (1, True, True, [4]),
        (1, True, False, [1, 1, 1]),
    ],
)
@pytest.mark.parametrize(
    ("dtype", "engine", "rtol", "atol"),
    [
        ("float64", "torch", 1e-10, 1e-12),
        ("float32", "torch", 1e-4, 1e-5),
        ("float32", "native", 1e-4, 1e-5),
    ],
)
def test_outputs_and_gradients_match_the_reference(
    reference,
    randomized,
    monkeypatch,
    sizes,
    num_layers,
    bidirectional,
    bias,
    lengths,
    dtype,
    engine,
    rtol,
    atol,
):
    monkeypatch.setattr(training, "_engine", engine)
    settings = {"num_layers": num_layers, "bidirectional": bidirectional, "bias": bias}
    layer = HLSTM(3, 4, gate_hidden_sizes=sizes, dtype=getattr(torch, dtype), **settings)
    randomized(layer)
    x = torch.randn(max(lengths), len(lengths), 3, dtype=layer.weight_ih_l0.dtype)
    x.requires_grad_()
    rows = num_layers * (1 + bidirectional)
    hx = [torch.randn(rows, len(lengths), 4, dtype=x.dtype, requires_grad=True) for _ in "hc"]
    actual, expected = run(layer, x, lengths, hx), reference(layer, x, lengths, hx)
    inputs = [x, *hx, *layer.parameters()]
    pairs = [*zip(actual, expected, strict=True)]
    grads = (
        gradients(actual, inputs),
        gradients(expected, inputs),
    )
    pairs += [*zip(*grads, strict=True)]
    for ours, slow in pairs:
        torch.testing.assert_close(ours, slow, rtol=rtol, atol=atol)


@pytest.mark.parametrize("sizes", [(), (2,), (3, 2), UNEQUAL], ids=str)
@pytest.mark.parametrize("gate_dropout", [0.0, 0.4])
def test_gradcheck(randomized, sizes, gate_dropout):
    layer = HLSTM(
        2,
        3,
        bidirectional=True,
        gate_hidden_sizes=sizes,
        gate_dropout=gate_dropout,
        negative_slope=0.2,
        dtype=torch.float64,
    )
    randomized(layer)
    x = torch.randn(3, 3, 2, dtype=torch.float64, requires_grad=True)
    hx = [torch.randn(2, 3, 3, dtype=torch.float64, requires_grad=True) for _ in "hc"]

    def forward(x, h, c, *_parameters):
        torch.manual_seed(7)
        return run(layer, x, [2, 3, 1], (h, c))

    assert torch.autograd.gradcheck(forward, (x, *hx, *layer.parameters()))


def dropout_draw(time, batch, width, seed):
    """Factors (time, batch, width) that keep 0.7."""
    kept = dropout_kept(time * batch, width, 0.7, seed).reshape(time, batch, width)
    return torch.from_numpy(kept).double() / 0.7


@pytest.mark.parametrize("sizes", [(6,), (5, 4), UNEQUAL], ids=str)
def test_dropout_multiplies_each_hidden_activation(reference, randomized, sizes):
    time, batch = 4, 3
    layer = HLSTM(3, 4, gate_hidden_sizes=sizes, gate_dropout=0.3, dtype=torch.float64)
    randomized(layer)
    x = torch.randn(time, batch, 3, dtype=torch.float64, requires_grad=True)
    torch.manual_seed(11)
    actual = run(layer, x, None)
    torch.manual_seed(11)
    layers = sum(map(len, layer.gate_widths))
    seeds = iter(torch.empty(layers, dtype=torch.int64).random_().tolist())
    draws = [
        [dropout_draw(time, batch, width, next(seeds)) for width in gate]
        for gate in layer.gate_widths
    ]
    expected = reference(
        layer, x, [time] * batch, scales=lambda b: [[s[:, b] for s in gate] for gate in draws]
    )
    inputs = [x, *layer.parameters()]
    for ours, slow in zip(actual, expected, strict=True):
        torch.testing.assert_close(ours, slow, rtol=1e-10, atol=1e-12)
    pairs = zip(gradients(actual, inputs), gradients(expected, inputs), strict=True)
    for ours, slow in pairs:
        torch.testing.assert_close(ours, slow, rtol=1e-10, atol=1e-12)


def cell_that_shows_its_dropout(rate):
    """h = tanh(tanh(a)) for the one hidden activation a = dropout(1) of the cell gate."""
    layer = HLSTM(1, 1, gate_hidden_sizes={"cell": (1,)}, gate_dropout=rate, dtype=torch.float64)
    for parameter in layer.parameters():
        torch.nn.init.zeros_(parameter)
    with torch.no_grad():
        layer.bias_ih_l0.copy_(torch.tensor([50.0, -50.0, 1.0, 50.0]))
        layer.weight_g_1_l0.fill_(1)
    return layer


def test_dropout_keeps_at_its_rate_and_draws_anew_each_step():
    outputs, _ = cell_that_shows_its_dropout(0.25)(torch.zeros(100, 100, 1, dtype=torch.float64))
    kept = outputs.squeeze(-1) > 0.1
    value = torch.tensor(1 / 0.75, dtype=torch.float64).tanh().tanh()
    torch.testing.assert_close(outputs[kept], value.expand(int(kept.sum()), 1))
    assert abs(kept.double().mean() - 0.75) < 4 * (0.75 * 0.25 / kept.numel()) ** 0.5
    both = (kept[1:] & kept[:-1]).double().mean()  # steps are independent: 0.75 squared
    assert abs(both - 0.75**2) < 0.02


def test_no_dropout_in_evaluation():
    layer = cell_that_shows_its_dropout(0.9).eval()
    outputs, _ = layer(torch.zeros(20, 20, 1, dtype=torch.float64))
    expected = torch.ones((), dtype=torch.float64).tanh().tanh().expand_as(outputs)
    torch.testing.assert_close(outputs, expected)


def test_dropout_without_gradients_also_draws_anew_each_step():
    with torch.no_grad():
        outputs, _ = cell_that_shows_its_dropout(0.5)(torch.zeros(30, 30, 1, dtype=torch.float64))
    kept = outputs.squeeze(-1) > 0.1
    assert (kept[1:] != kept[:-1]).double().mean() > 0.3


@given(
    lengths=st.lists(st.integers(1, 5), min_size=1, max_size=4),
    padding=st.integers(0, 3),
    seed=st.integers(0, 1000),
)
@settings(max_examples=25, deadline=None)
def test_padding_never_changes_a_result(lengths, padding, seed):
    torch.manual_seed(seed)
    layer = HLSTM(
        2, 3, num_layers=2, bidirectional=True, gate_hidden_sizes=(4,), dtype=torch.float64
    )
    x = torch.randn(max(lengths), len(lengths), 2, dtype=torch.float64)
    filled = torch.full((max(lengths) + padding, len(lengths), 2), float("nan"))
    filled = filled.to(x)
    for b, length in enumerate(lengths):
        filled[:length, b] = x[:length, b]
    x.requires_grad_()
    filled.requires_grad_()
    plain, padded = run(layer, x, lengths), run(layer, filled, lengths)
    beyond = torch.arange(len(filled)).unsqueeze(1) >= torch.tensor(lengths)
    assert (padded[0][beyond] == 0).all()
    parameters = list(layer.parameters())
    expected = gradients(plain, [x, *parameters])
    padded = (padded[0][: len(x)], *padded[1:])
    actual = gradients(padded, [filled, *parameters])
    assert (actual[0][beyond] == 0).all()
    pairs = zip([*plain, *expected], [*padded, actual[0][: len(x)], *actual[1:]], strict=True)
    for one, other in pairs:
        torch.testing.assert_close(other, one, rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize("frozen", ["weight_ih_l0", "weight_hh_l0", "weight_f_1_l0", "bias_hh_l0"])
def test_a_frozen_parameter_gets_no_gradient_and_changes_no_other(frozen):
    layer = HLSTM(2, 3, gate_hidden_sizes=(4,))
    x = torch.randn(4, 2, 2)
    weighted_sum(run(layer, x, None)).backward()
    expected = {name: p.grad.clone() for name, p in layer.named_parameters() if name != frozen}
    layer.zero_grad()
    layer.get_parameter(frozen).requires_grad_(False)
    weighted_sum(run(layer, x, None)).backward()
    assert layer.get_parameter(frozen).grad is None
    for name, grad in expected.items():
        torch.testing.assert_close(layer.get_parameter(name).grad, grad, rtol=0, atol=0)


def test_backward_twice_through_a_kept_graph_gives_the_same():
    layer = HLSTM(2, 3, gate_hidden_sizes=(4, 3))
    loss = weighted_sum(run(layer, torch.randn(4, 2, 2), [2, 4]))
    parameters = list(layer.parameters())
    first = torch.autograd.grad(loss, parameters, retain_graph=True)
    second = torch.autograd.grad(loss, parameters)
    for one, other in zip(first, second, strict=True):
        assert torch.equal(one, other)


@pytest.mark.parametrize("engine", training.ENGINES)
def test_sizes_where_large_products_matter_agree_in_float32(reference, monkeypatch, engine):
    monkeypatch.setattr(training, "_engine", engine)
    layer = HLSTM(40, 48, gate_hidden_sizes=(56,))
    x = torch.randn(12, 16, 40, requires_grad=True)
    lengths = [12] * 10 + [7] * 5 + [3]
    actual, expected = run(layer, x, lengths), reference(layer, x, lengths)
    inputs = [x, *layer.parameters()]
    for ours, slow in zip(actual, expected, strict=True):
        torch.testing.assert_close(ours, slow, rtol=1e-5, atol=1e-6)
    pairs = zip(gradients(actual, inputs), gradients(expected, inputs), strict=True)
    for ours, slow in pairs:
        torch.testing.assert_close(ours, slow, rtol=1e-4, atol=1e-4)
