"""Parameters, first values, modes, copies and messages of HLSTM and HLSTMCell."""

import copy

import pytest
import torch
from torch import nn
from torch.nn.utils.rnn import pack_padded_sequence

from growprune.native import training
from growprune.nn import HLSTM, HLSTMCell


def layer_and_input(**settings):
    torch.manual_seed(1)
    layer = HLSTM(5, 6, gate_hidden_sizes=(4,), **settings)
    return layer, torch.randn(7, 3, 5)


def test_parameters_have_their_names_and_shapes():
    sizes = {"input": (3,), "cell": (2, 4)}
    layer = HLSTM(5, 6, 2, bidirectional=True, gate_hidden_sizes=sizes)
    shapes = {name: tuple(p.shape) for name, p in layer.named_parameters() if "_l1_rev" in name}
    assert shapes == {
        "weight_ih_l1_reverse": (3 + 6 + 2 + 6, 12),
        "weight_hh_l1_reverse": (3 + 6 + 2 + 6, 6),
        "bias_ih_l1_reverse": (17,),
        "bias_hh_l1_reverse": (17,),
        "weight_i_1_l1_reverse": (6, 3),
        "bias_i_1_l1_reverse": (6,),
        "weight_g_1_l1_reverse": (4, 2),
        "bias_g_1_l1_reverse": (4,),
        "weight_g_2_l1_reverse": (6, 4),
        "bias_g_2_l1_reverse": (6,),
    }
    assert tuple(layer.weight_ih_l0.shape) == (17, 5)


def test_without_bias_there_are_matrices_only():
    layer = HLSTM(5, 6, bias=False, gate_hidden_sizes=(4,))
    assert len(list(layer.parameters())) == 6
    assert all(p.dim() == 2 for p in layer.parameters())


def test_first_values():
    layer = HLSTM(20, 30, gate_hidden_sizes={"input": (40, 50), "forget": (40,)})
    expected = {  # uniform in +-bound
        "weight_ih_l0": (6 / ((1 + 0.01**2) * 50)) ** 0.5,
        "weight_i_1_l0": (6 / ((1 + 0.01**2) * 40)) ** 0.5,
        "weight_i_2_l0": 50**-0.5,
        "weight_f_1_l0": 40**-0.5,
    }
    for name, bound in expected.items():
        assert 0.98 * bound < layer.get_parameter(name).detach().abs().max() <= bound
    affine = layer.weight_ih_l0.detach()[80:]
    assert 0.98 * 30**-0.5 < affine.abs().max() <= 30**-0.5
    assert (layer.bias_f_1_l0 == 1).all()
    assert (layer.bias_i_2_l0 == 0).all()
    affine_forget = HLSTM(20, 30, gate_hidden_sizes={"input": (40,)})
    assert affine_forget.bias_ih_l0[40:70].eq(1).all()
    assert affine_forget.bias_ih_l0.sum() == 30


def test_state_dict_carries_over():
    layer, x = layer_and_input()
    other = HLSTM(5, 6, gate_hidden_sizes=(4,))
    other.load_state_dict(layer.state_dict())
    assert torch.equal(other(x)[0], layer(x)[0])


def test_deepcopy_is_equal_and_independent():
    layer, x = layer_and_input(negative_slope=0.3)
    expected = layer(x)[0]
    expected.sum().backward()
    other = copy.deepcopy(layer)
    assert torch.equal(other(x)[0], expected)
    with torch.no_grad():
        other.weight_ih_l0.zero_()
    assert torch.equal(layer(x)[0], expected)


def test_negative_slope_may_change_at_any_time():
    layer, x = layer_and_input(negative_slope=0.3)
    before = layer(x)[0]
    layer.negative_slope = 0
    expected = HLSTM(5, 6, gate_hidden_sizes=(4,), negative_slope=0.0)
    expected.load_state_dict(layer.state_dict())
    assert torch.equal(layer(x)[0], expected(x)[0])
    assert not torch.allclose(layer(x)[0], before)
    with pytest.raises(ValueError, match="negative_slope must be a number from 0 to 1, got -1"):
        layer.negative_slope = -1


def test_the_two_biases_do_not_share_their_gradient():
    layer, x = layer_and_input()
    layer(x)[0].sum().backward()
    expected = layer.bias_hh_l0.grad.clone()
    torch.testing.assert_close(layer.bias_ih_l0.grad, expected)
    layer.bias_ih_l0.grad.zero_()
    assert torch.equal(layer.bias_hh_l0.grad, expected)


@pytest.mark.parametrize("lengths", [None, [7, 2, 5]])
def test_without_gradients_the_results_are_the_same(lengths):
    layer, x = layer_and_input(bidirectional=True, num_layers=2)
    expected, state = layer(x, lengths=lengths)
    with torch.no_grad():
        outputs, (h, c) = layer(x, lengths=lengths)
    for actual, wanted in zip((outputs, h, c), (expected, *state), strict=True):
        assert not actual.requires_grad
        torch.testing.assert_close(actual, wanted, rtol=1e-6, atol=1e-7)


def test_lengths_tensor_list_and_packed_sequence_agree():
    layer, x = layer_and_input(bidirectional=True, batch_first=True)
    x, lengths = x.transpose(0, 1).contiguous(), [2, 7, 4]
    from_list, _ = layer(x, lengths=lengths)
    from_tensor, _ = layer(x, lengths=torch.tensor(lengths, dtype=torch.int32))
    packed = pack_padded_sequence(x, lengths, batch_first=True, enforce_sorted=False)
    from_packed = nn.utils.rnn.pad_packed_sequence(layer(packed)[0], batch_first=True)[0]
    assert torch.equal(from_list, from_tensor)
    assert torch.equal(from_list, from_packed)


def test_autocast_multiplies_in_bfloat16_and_keeps_float32_states():
    layer, x = layer_and_input(bidirectional=True)
    x.requires_grad_()
    inputs = [x, *layer.parameters()]
    exact, _ = layer(x)
    expected = torch.autograd.grad(exact.sum(), inputs)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        outputs, (h, c) = layer(x.bfloat16(), lengths=[7, 7, 7])
        rounded, _ = layer(x)
    assert {t.dtype for t in (outputs, h, c)} == {torch.float32}
    grads = torch.autograd.grad(rounded.sum(), inputs)
    assert {g.dtype for g in grads} == {torch.float32}
    assert not torch.equal(rounded, exact)
    for actual, wanted in zip([outputs, rounded, *grads], [exact, exact, *expected], strict=True):
        error = (actual - wanted).norm() / wanted.norm()
        assert error < 0.01  # bfloat16 keeps 8 bits


def test_torchs_autocast_equals_products_of_rounded_numbers(monkeypatch):
    monkeypatch.setattr(training, "_engine", "torch")
    layer, x = layer_and_input()
    x = x[:1].bfloat16()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        outputs, _ = layer(x)
    p = {name: value.bfloat16() for name, value in layer.state_dict().items()}
    first = (x[0] @ p["weight_ih_l0"].t()).float() + layer.bias_ih_l0 + layer.bias_hh_l0
    a = nn.functional.leaky_relu(first, 0.01).chunk(4, -1)
    z = [
        (a[k].bfloat16() @ p[f"weight_{g}_1_l0"].t()).float()
        + layer.get_parameter(f"bias_{g}_1_l0")
        for k, g in enumerate("ifgo")
    ]
    c = torch.sigmoid(z[0]) * torch.tanh(z[2])
    torch.testing.assert_close(outputs[0], torch.sigmoid(z[3]) * torch.tanh(c))


@pytest.mark.parametrize("whole", [False, True])
def test_compiles(whole):
    layer, x = layer_and_input(bidirectional=True)
    model = nn.Sequential(nn.Linear(5, 5), layer) if whole else layer
    compiled = torch.compile(model, backend="aot_eager")
    expected, actual = model(x)[0], compiled(x)[0]
    torch.testing.assert_close(actual, expected)
    parameters = list(model.parameters())
    grads = [torch.autograd.grad(out.square().sum(), parameters) for out in (actual, expected)]
    for ours, wanted in zip(*grads, strict=True):
        torch.testing.assert_close(ours, wanted)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_cuda_agrees_with_cpu():
    layer, x = layer_and_input(bidirectional=True, num_layers=2)
    lengths = [7, 2, 5]
    expected, _ = layer(x, lengths=lengths)
    wanted = torch.autograd.grad(expected.square().sum(), list(layer.parameters()))
    other = copy.deepcopy(layer).cuda()
    outputs, _ = other(x.cuda(), lengths=torch.tensor(lengths).cuda())
    grads = torch.autograd.grad(outputs.square().sum(), list(other.parameters()))
    for actual, value in zip([outputs, *grads], [expected, *wanted], strict=True):
        torch.testing.assert_close(actual.cpu(), value, rtol=1e-3, atol=1e-4)


def test_float64_input_and_weights_give_float64():
    outputs, (h, c) = HLSTM(5, 6, dtype=torch.float64)(torch.randn(7, 3, 5, dtype=torch.float64))
    assert {outputs.dtype, h.dtype, c.dtype} == {torch.float64}


def test_repr_shows_the_settings():
    cell = HLSTMCell(5, 6, gate_hidden_sizes={"forget": (4,)}, gate_dropout=0.2)
    assert repr(cell) == (
        "HLSTMCell(5, 6, bias=True, gate_widths=((), (4,), (), ()), gate_dropout=0.2, "
        "negative_slope=0.01)"
    )


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"input_size": 0}, "input_size must be a positive integer, got 0"),
        ({"hidden_size": 2.5}, "hidden_size must be a positive integer, got 2.5"),
        ({"num_layers": 0}, "num_layers must be a positive integer, got 0"),
        ({"dropout": 1.5}, "dropout must be a number from 0 to 1, got 1.5"),
        ({"gate_dropout": -1}, "gate_dropout must be a number from 0 to 1, got -1"),
        ({"gate_dropout": 1.0}, "gate_dropout must be below 1"),
        ({"negative_slope": float("nan")}, "negative_slope must be a number"),
        ({"gate_hidden_sizes": (4, 0)}, "gate_hidden_sizes must hold positive integers, got 0"),
        ({"gate_hidden_sizes": {"reset": (4,)}}, r"unknown gates \['reset'\]; use \['input'"),
        ({"gate_hidden_sizes": 4}, "gate_hidden_sizes must be a sequence of widths"),
        ({"gate_hidden_sizes": {"cell": 4}}, "gate_hidden_sizes must be a sequence of widths"),
    ],
)
def test_settings_that_make_no_sense(settings, message):
    with pytest.raises(ValueError, match=message):
        HLSTM(**{"input_size": 5, "hidden_size": 6, **settings})


@pytest.mark.parametrize(
    ("shape", "options", "message"),
    [
        ((7, 3, 4), {}, "input has 4 features, but input_size is 5"),
        ((7, 3, 5, 1), {}, r"2 or 3 dimensions, got shape \(7, 3, 5, 1\)"),
        ((0, 3, 5), {}, "at least one step and sequence, got 0 and 3"),
        ((7, 3, 5), {"hx": (torch.zeros(1, 2, 6),) * 2}, r"\(1, 2, 6\), expected \(1, 3, 6\)"),
        ((7, 5), {"hx": (torch.zeros(1, 3, 6),) * 2}, r"\(1, 3, 6\), expected \(1, 6\)"),
        ((7, 3, 5), {"lengths": [7, 8, 0]}, r"lie in 1 to 7 \(time\), got \[8, 0\]"),
        ((7, 3, 5), {"lengths": [7, 7]}, r"shape \(3,\), got \(2,\)"),
        ((7, 3, 5), {"lengths": [1.0, 2.0, 3.0]}, "must be integers, got torch.float32"),
        ((7, 5), {"lengths": [7]}, "belongs to a batch"),
    ],
)
def test_calls_that_do_not_fit(shape, options, message):
    with pytest.raises(ValueError, match=message):
        HLSTM(5, 6)(torch.zeros(shape), **options)


def test_more_calls_that_do_not_fit():
    layer, x = layer_and_input()
    with pytest.raises(
        ValueError, match=r"input is torch.float64, but the weights are torch.float32"
    ):
        layer(x.double())
    with pytest.raises(ValueError, match="a PackedSequence knows its lengths"):
        layer(pack_padded_sequence(x, [7, 7, 7]), lengths=[7, 7, 7])
    with pytest.raises(ValueError, match=r"1 or 2 dimensions, got shape \(7, 3, 5\)"):
        HLSTMCell(5, 6)(x)
    with pytest.raises(ValueError, match=r"cell state in hx has shape \(3, 5\), expected \(3, 6\)"):
        HLSTMCell(5, 6)(x[0], (torch.zeros(3, 6), torch.zeros(3, 5)))
    with pytest.warns(UserWarning, match="nothing with num_layers=1"):
        HLSTM(5, 6, dropout=0.5)
