"""HLSTM without hidden layers is torch.nn.LSTM, and HLSTMCell torch.nn.LSTMCell."""

import pytest
import torch
from torch import nn
from torch.nn.utils.rnn import PackedSequence, pack_padded_sequence

from growprune.nn import HLSTM, HLSTMCell


def pair(**settings):
    lstm = nn.LSTM(5, 6, **settings)
    return lstm, HLSTM.from_lstm(lstm)


def results(layer, x, hx):
    """Outputs, states, and the gradients of everything."""
    outputs, (h, c) = layer(x, hx)
    rows = outputs.data if isinstance(outputs, PackedSequence) else outputs
    data = x.data if isinstance(x, PackedSequence) else x
    weights = torch.linspace(-1, 1, rows.numel(), dtype=rows.dtype).view_as(rows)
    loss = (rows * weights).sum() + (h * h).sum() + c.sin().sum()
    inputs = [data, *(hx or ()), *layer.parameters()]
    return [rows, h, c, *torch.autograd.grad(loss, inputs)]


def assert_same(lstm, hlstm, x, hx=None):
    expected, actual = results(lstm, x, hx), results(hlstm, x, hx)
    for ours, theirs in zip(actual, expected, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=2e-6)


@pytest.mark.parametrize("num_layers", [1, 3])
@pytest.mark.parametrize("bidirectional", [False, True])
@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("batch_first", [False, True])
def test_equals_torch(num_layers, bidirectional, bias, batch_first):
    lstm, hlstm = pair(
        num_layers=num_layers, bidirectional=bidirectional, bias=bias, batch_first=batch_first
    )
    x = torch.randn(4, 7, 5, requires_grad=True)
    batch = 4 if batch_first else 7
    rows = num_layers * (1 + bidirectional)
    hx = tuple(torch.randn(rows, batch, 6, requires_grad=True) for _ in "hc")
    assert_same(lstm, hlstm, x)
    assert_same(lstm, hlstm, x, hx)


@pytest.mark.parametrize("enforce_sorted", [False, True])
@pytest.mark.parametrize("bidirectional", [False, True])
def test_equals_torch_on_packed_sequences(enforce_sorted, bidirectional):
    lstm, hlstm = pair(num_layers=2, bidirectional=bidirectional)
    lengths = [6, 4, 4, 1] if enforce_sorted else [4, 1, 6, 4]
    packed = pack_padded_sequence(torch.randn(6, 4, 5), lengths, enforce_sorted=enforce_sorted)
    packed.data.requires_grad_()
    hx = tuple(torch.randn(2 * (1 + bidirectional), 4, 6, requires_grad=True) for _ in "hc")
    assert_same(lstm, hlstm, packed)
    assert_same(lstm, hlstm, packed, hx)
    outputs = hlstm(packed)[0]
    assert outputs.batch_sizes.tolist() == packed.batch_sizes.tolist()
    assert (outputs.sorted_indices is None) == enforce_sorted


@pytest.mark.parametrize("batch_first", [False, True])
def test_equals_torch_on_a_single_sequence(batch_first):
    lstm, hlstm = pair(batch_first=batch_first, bidirectional=True)
    x = torch.randn(7, 5, requires_grad=True)
    hx = tuple(torch.randn(2, 6, requires_grad=True) for _ in "hc")
    assert_same(lstm, hlstm, x)
    assert_same(lstm, hlstm, x, hx)


def test_equals_torch_on_strided_inputs():
    lstm, hlstm = pair()
    wide = torch.randn(4, 3, 10, requires_grad=True)
    assert_same(lstm, hlstm, wide[:, :, ::2])
    assert_same(lstm, hlstm, wide[..., :5].transpose(0, 1))
    assert_same(lstm, hlstm, wide[:, 0, ::2])


def test_same_seed_draws_the_same_weights():
    torch.manual_seed(3)
    lstm = nn.LSTM(5, 6, 2, bidirectional=True)
    torch.manual_seed(3)
    hlstm = HLSTM(5, 6, 2, bidirectional=True)
    theirs, ours = lstm.state_dict(), hlstm.state_dict()
    assert list(ours) == list(theirs)
    assert all(torch.equal(ours[name], theirs[name]) for name in theirs)


def test_converts_both_ways():
    settings = {"num_layers": 2, "batch_first": True, "bidirectional": True, "dropout": 0.25}
    lstm = nn.LSTM(5, 6, bias=False, dtype=torch.float64, **settings).eval()
    back = HLSTM.from_lstm(lstm).to_lstm()
    assert repr(back) == repr(lstm)
    assert not back.training
    for name, value in lstm.state_dict().items():
        assert torch.equal(back.state_dict()[name], value)
        assert back.state_dict()[name].data_ptr() != value.data_ptr()


def test_what_has_no_counterpart_does_not_convert():
    with pytest.raises(ValueError, match="proj_size=3"):
        HLSTM.from_lstm(nn.LSTM(5, 6, proj_size=3))
    with pytest.raises(ValueError, match="hidden layers"):
        HLSTM(5, 6, gate_hidden_sizes={"cell": (3,)}).to_lstm()


def test_dropout_between_layers_like_torch():
    lstm, hlstm = pair(num_layers=2, dropout=0.5)
    x = torch.randn(4, 3, 5)
    torch.manual_seed(5)
    expected = lstm(x)[0]
    torch.manual_seed(5)
    torch.testing.assert_close(hlstm(x)[0], expected)


@pytest.mark.parametrize("shape", [(3, 5), (5,)])
@pytest.mark.parametrize("bias", [False, True])
def test_cell_equals_torch(shape, bias):
    theirs = nn.LSTMCell(5, 6, bias=bias)
    ours = HLSTMCell(5, 6, bias=bias)
    ours.load_state_dict(theirs.state_dict())
    x = torch.randn(shape, requires_grad=True)
    hx = tuple(torch.randn(*shape[:-1], 6, requires_grad=True) for _ in "hc")
    for ours_out, theirs_out in zip(
        (*ours(x), *ours(x, hx)), (*theirs(x), *theirs(x, hx)), strict=True
    ):
        torch.testing.assert_close(ours_out, theirs_out)
        inputs = [x, *ours.parameters()], [x, *theirs.parameters()]
        grads = (
            torch.autograd.grad(out.square().sum(), of, retain_graph=True)
            for out, of in zip((ours_out, theirs_out), inputs, strict=True)
        )
        for our_grad, their_grad in zip(*grads, strict=True):
            torch.testing.assert_close(our_grad, their_grad)


def test_cell_stepped_along_a_sequence_equals_the_layer(randomized):
    sizes = {"input": (3,), "cell": (2, 4)}
    layer = randomized(HLSTM(5, 6, gate_hidden_sizes=sizes))
    cell = HLSTMCell(5, 6, gate_hidden_sizes=sizes)
    cell.load_state_dict({name.removesuffix("_l0"): p for name, p in layer.state_dict().items()})
    x = torch.randn(4, 3, 5)
    outputs, (h_n, c_n) = layer(x)
    state = None
    for x_t, expected in zip(x, outputs, strict=True):
        state = cell(x_t, state)
        torch.testing.assert_close(state[0], expected)
    torch.testing.assert_close(state, (h_n[0], c_n[0]))
