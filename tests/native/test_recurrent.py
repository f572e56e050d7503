from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

from growprune import native
from growprune.nn import HLSTM

LAYOUTS = ["dense", "csr", "blocks"]


@pytest.fixture(autouse=True)
def seeded():
    torch.manual_seed(0)


def numpy(tensor):
    return tensor.detach().numpy().copy()


def prune(module, density, block=16):
    """Zero all but a fraction of each weight matrix, in blocks."""
    for name, weight in module.named_parameters():
        if name.startswith("weight"):
            mask = torch.rand(-(-len(weight) // block), weight.shape[1]) < density
            weight.data *= mask.repeat_interleave(block, 0)[: len(weight)]


def from_lstm(module, packed, layout, suffix=""):
    """The packed form of one layer of an LSTM or HLSTM."""
    get = {name.removesuffix("_l0" + suffix): numpy(p) for name, p in module.named_parameters()}
    stages = []
    for letter in "ifgo":
        depths = range(1, sum(name.startswith(f"weight_{letter}_") for name in get) + 1)
        stages.append(
            [
                (packed(layout, get[f"weight_{letter}_{d}"]), get[f"bias_{letter}_{d}"])
                for d in depths
            ]
        )
    return native.Recurrent(
        "lstm",
        packed(layout, get["weight_ih"]),
        packed(layout, get["weight_hh"]),
        get["bias_ih"] + get["bias_hh"],
        stages if any(stages) else (),
        slope=getattr(module, "negative_slope", 0.0),
    )


def from_gru(module, packed, layout):
    bias, hidden = numpy(module.bias_ih_l0), numpy(module.bias_hh_l0)
    width = module.hidden_size
    bias[: 2 * width] += hidden[: 2 * width]
    return native.Recurrent(
        "gru",
        packed(layout, numpy(module.weight_ih_l0)),
        packed(layout, numpy(module.weight_hh_l0)),
        bias,
        hidden_bias=hidden[2 * width :],
    )


def run_torch(module, x, lengths, states):
    """What the torch layer makes of a padded batch: outputs and last states, batch first."""
    rows = pack_padded_sequence(x, lengths, batch_first=True, enforce_sorted=False)
    gru = isinstance(module, nn.GRU)
    outputs, last = module(rows, states[0][None] if gru else tuple(s[None] for s in states))
    outputs, _ = pad_packed_sequence(outputs, batch_first=True, total_length=x.shape[1])
    return [numpy(outputs), *(numpy(s)[0] for s in ((last,) if gru else last))]


def backwards(x, lengths):
    """Each sequence with its own steps reversed, the padding left in place."""
    x = x.clone()
    for sequence, length in zip(x, lengths, strict=True):
        sequence[:length] = sequence[:length].flip(0)
    return x


def assert_close(found, expected):
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-5 * np.abs(expected).max())


def make(kind, inputs, hidden):
    if kind == "gru":
        return nn.GRU(inputs, hidden, batch_first=True)
    if kind == "lstm":
        return nn.LSTM(inputs, hidden, batch_first=True)
    depths = {"h-lstm": (40,), "uneven": {"input": (24,), "forget": (8, 33), "output": (16,)}}
    slope = 0.0 if kind == "h-lstm" else 0.1
    return HLSTM(
        inputs, hidden, batch_first=True, gate_hidden_sizes=depths[kind], negative_slope=slope
    )


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("kind", ["lstm", "gru", "h-lstm", "uneven"])
@pytest.mark.parametrize(("inputs", "hidden"), [(20, 32), (7, 13)])
@pytest.mark.parametrize("batch", [1, 5, 19])
def test_agrees_with_torch(path, packed, layout, kind, inputs, hidden, batch):
    module = make(kind, inputs, hidden)
    prune(module, 0.5)
    layer = (from_gru if kind == "gru" else from_lstm)(module, packed, layout)
    x = torch.randn(batch, 40, inputs)
    h, c = torch.randn(2, batch, hidden)
    lengths = torch.randint(1, 41, (batch,))
    for reverse in (False, True):
        wanted = run_torch(module, backwards(x, lengths) if reverse else x, lengths, (h, c))
        if reverse:
            wanted[0] = numpy(backwards(torch.from_numpy(wanted[0]), lengths))
        states = [numpy(h)] if kind == "gru" else [numpy(h), numpy(c)]
        found = layer.run(numpy(x), numpy(lengths), *states, reverse=reverse)
        for one, other in zip(found, wanted, strict=kind != "gru"):
            assert_close(one, other)
        for sequence, length in zip(found[0], lengths, strict=True):
            assert not sequence[length:].any()


@pytest.mark.parametrize("density", [0, 1e-3, 0.026, 0.5, 1])
@pytest.mark.parametrize("layout", LAYOUTS)
def test_densities(path, packed, layout, density):
    module = HLSTM(50, 50, gate_hidden_sizes=(50,), negative_slope=0.0, batch_first=True)
    prune(module, density, block=1)
    x = torch.randn(2, 12, 50)
    outputs, (h, c) = module(x)
    found = from_lstm(module, packed, layout).run(numpy(x))
    for one, other in zip(found, (outputs, h[0], c[0]), strict=True):
        assert_close(one, numpy(other))


@pytest.mark.parametrize("kind", ["lstm", "gru", "h-lstm"])
@pytest.mark.parametrize("batch", [1, 3, 64])
def test_steps_make_a_sequence(path, packed, rng, kind, batch):
    module = make(kind, 20, 32)
    layer = (from_gru if kind == "gru" else from_lstm)(module, packed, "blocks")
    x = rng.standard_normal((batch, 6, 20)).astype(np.float32)
    outputs, *last = layer.run(x)
    h, c = np.zeros((2, batch, 32), np.float32)
    for t in range(6):
        before = h.copy()
        new_h, new_c = layer.step(x[:, t], h, None if kind == "gru" else c)
        np.testing.assert_array_equal(h, before)
        assert_close(new_h, outputs[:, t])
        h, c = new_h, new_c
    assert_close(h, last[0])
    if kind == "gru":
        assert c is None
        assert last[1] is None
    else:
        assert_close(c, last[1])


def test_arguments_are_left_alone(path, packed, rng):
    layer = from_lstm(make("lstm", 20, 32), packed, "dense")
    x = rng.standard_normal((2, 5, 20)).astype(np.float32)
    h, c = rng.standard_normal((2, 2, 32)).astype(np.float32)
    before = [a.copy() for a in (x, h, c)]
    layer.run(x, np.array([5, 3]), h, c)
    layer.step(x[:, 0], h, c)
    for array, was in zip((x, h, c), before, strict=True):
        np.testing.assert_array_equal(array, was)


def test_a_sequence_of_no_steps_keeps_its_state(path, packed, rng):
    layer = from_lstm(make("lstm", 20, 32), packed, "csr")
    x = rng.standard_normal((2, 4, 20)).astype(np.float32)
    h, c = rng.standard_normal((2, 2, 32)).astype(np.float32)
    outputs, last_h, last_c = layer.run(x, np.array([0, 4]), h, c)
    assert not outputs[0].any()
    np.testing.assert_array_equal(last_h[0], h[0])
    np.testing.assert_array_equal(last_c[0], c[0])
    nothing, *_ = layer.run(x[:, :0], None, h, c)
    assert nothing.shape == (2, 0, 32)


def test_wrong_arguments_are_refused(packed):
    ih, hh = (packed("dense", np.ones((8, columns), np.float32)) for columns in (3, 2))
    bias = np.zeros(8, np.float32)
    with pytest.raises(ValueError, match='kind must be "lstm" or "gru", got \'rnn\''):
        native.Recurrent("rnn", ih, hh, bias)
    with pytest.raises(ValueError, match="hidden_bias is needed"):
        native.Recurrent("gru", ih, hh, bias)
    with pytest.raises(ValueError, match="ih and hh must have 8 rows, got 8 and 3"):
        native.Recurrent("lstm", ih, packed("dense", np.ones((3, 2), np.float32)), bias)
    with pytest.raises(ValueError, match="4 lists, got 1"):
        native.Recurrent("lstm", ih, hh, bias, [[]])
    stage = (packed("dense", np.ones((3, 2), np.float32)), np.zeros(3, np.float32))
    with pytest.raises(ValueError, match="3 rows, but the layer's width is 2"):
        native.Recurrent("lstm", ih, hh, bias, [[stage], [], [], []])
    layer = native.Recurrent("lstm", ih, hh, bias)
    x = np.zeros((2, 5, 3), np.float32)
    with pytest.raises(ValueError, match="x has 4 features, but the layer reads 3"):
        layer.run(np.zeros((2, 5, 4), np.float32))
    with pytest.raises(ValueError, match=r"lengths must lie in 0 to 5 \(time\), got \[6, 1\]"):
        layer.run(x, np.array([6, 1]))
    with pytest.raises(ValueError, match=r"h must have shape \(2, 2\), got \(1, 2\)"):
        layer.run(x, h=np.zeros((1, 2), np.float32))


def test_wrong_steps_are_refused(path, packed):
    ih, hh = (packed("dense", np.ones((8, columns), np.float32)) for columns in (3, 2))
    layer = native.Recurrent("lstm", ih, hh, np.zeros(8, np.float32))
    x, h, c = (np.zeros((1, width), np.float32) for width in (3, 2, 2))
    with pytest.raises(TypeError, match="x must be a NumPy array of float32, got float64"):
        layer.step(x.astype(np.float64), h, c)
    with pytest.raises(ValueError, match="x has 2 features, but the layer reads 3"):
        layer.step(h, h, c)
    with pytest.raises(ValueError, match=r"h must have shape \(1, 2\), got \(2, 2\)"):
        layer.step(x, h.repeat(2, 0), c)
    with pytest.raises(TypeError, match="c must be a NumPy array of float32, got NoneType"):
        layer.step(x, h)
    with pytest.raises(TypeError, match="c must be a NumPy array of float32, got float64"):
        layer.step(x, h, c.astype(np.float64))
    gru = from_gru(make("gru", 3, 2), packed, "dense")
    with pytest.raises(ValueError, match="a GRU has no cell state"):
        gru.step(x, h, c)


def test_step_takes_arrays_that_are_not_contiguous(path, packed, rng):
    layer = from_lstm(make("lstm", 20, 32), packed, "blocks")
    x, h, c = (rng.standard_normal((n, 4)).astype(np.float32).T for n in (20, 32, 32))
    expected = layer.step(x.copy(), h.copy(), c.copy())
    for found, wanted in zip(layer.step(x, h, c), expected, strict=True):
        assert_close(found, wanted)  # NumPy's sums depend on how an array lies in memory


def test_threads_take_turns(path, packed, rng):
    layer = from_lstm(make("lstm", 20, 32), packed, "blocks")
    inputs = rng.standard_normal((16, 1, 3000, 20)).astype(np.float32)
    expected = [layer.run(x)[0] for x in inputs]
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(lambda x: layer.run(x)[0], inputs))
    np.testing.assert_array_equal(found, expected)
