"""`torch.nn.LSTM` on our passes against itself on torch's."""

import copy
import pickle

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.nn.utils.rnn import PackedSequence, pack_padded_sequence

from growprune.native import paths, training
from growprune.nn import _recurrence, leave_out_dormant, native_forward
from growprune.nn.lstm import PAYS_BELOW

pytestmark = pytest.mark.skipif(
    paths.kernel() == "numpy", reason="no compiled kernels: torch's own pass runs everywhere"
)

MADE = []
"""The native passes that a test made so far: one for each layer and direction of a call."""


@pytest.fixture(autouse=True)
def passes(monkeypatch):
    make = _recurrence._native_pass

    def noting(plan, parameters):
        MADE.append(plan)
        return make(plan, parameters)

    monkeypatch.setattr(_recurrence, "_native_pass", noting)
    monkeypatch.setattr(training, "_engine", "native")
    MADE.clear()
    return MADE


def note(lstm, density):
    """Make a share of each matrix's connections active, as `GrowPrune` does."""
    for weight in lstm.parameters():
        if weight.dim() == 2:
            mask = torch.rand_like(weight) < density
            with torch.no_grad():
                weight.mul_(mask)
            training.note_active(weight, training.ActiveConnections(mask.numpy(), True))
    return lstm


def results(run, lstm, x, hx=None):
    """Outputs, last states, and the gradients of everything."""
    outputs, (h, c) = run(lstm, x, hx)
    rows = outputs.data if isinstance(outputs, PackedSequence) else outputs
    data = x.data if isinstance(x, PackedSequence) else x
    loss = sum((t * torch.linspace(-1, 2, t.numel()).view_as(t)).sum() for t in (rows, h, c))
    inputs = [data, *(hx or ()), *lstm.parameters()]
    return [rows.detach(), h.detach(), c.detach(), *torch.autograd.grad(loss, inputs)]


def assert_same(lstm, x, hx=None):
    MADE.clear()
    found = results(native_forward, lstm, x, hx)
    assert len(MADE) == lstm.num_layers * (1 + lstm.bidirectional)
    expected = results(nn.LSTM.forward, lstm, x, hx)
    for ours, theirs in zip(found, expected, strict=True):
        scale = max(1.0, float(theirs.abs().max()))
        torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-5 * scale)


def states(lstm, *batch):
    rows = lstm.num_layers * (1 + lstm.bidirectional)
    return tuple(torch.randn(rows, *batch, lstm.hidden_size, requires_grad=True) for _ in "hc")


LAYERS = st.fixed_dictionaries(
    {
        "input_size": st.integers(1, 19),
        "hidden_size": st.integers(1, 20),
        "num_layers": st.integers(1, 3),
        "bias": st.booleans(),
        "batch_first": st.booleans(),
        "bidirectional": st.booleans(),
    }
)


@given(
    layers=LAYERS,
    form=st.sampled_from(["padded", "single", "sorted", "packed"]),
    lengths=st.lists(st.integers(1, 6), min_size=1, max_size=18),
    with_states=st.booleans(),
    density=st.sampled_from([None, 0.05, 0.3, 0.8]),
)
@settings(max_examples=80, deadline=None)
def test_agrees_on_values_and_gradients(layers, form, lengths, with_states, density):
    lstm = nn.LSTM(**layers)
    if density is not None:
        note(lstm, density)
    time, batch = max(lengths), len(lengths)
    shape = [batch, time] if lstm.batch_first else [time, batch]
    x = torch.randn(*([time] if form == "single" else shape), lstm.input_size, requires_grad=True)
    if form in ("sorted", "packed"):
        steps = sorted(lengths, reverse=True) if form == "sorted" else lengths
        x = pack_padded_sequence(x.detach(), steps, lstm.batch_first, form == "sorted")
        x.data.requires_grad_()
    hx = states(lstm, *([] if form == "single" else [batch])) if with_states else None
    assert_same(lstm, x, hx)


@pytest.mark.parametrize("threads", [1, 2, 3])
@pytest.mark.parametrize(
    "lengths", [[20] * 16, [20] * 7 + [13] * 9 + [4] * 3], ids=["even", "ragged"]
)
@pytest.mark.parametrize("density", [0.1, 1])
def test_any_number_of_threads_agrees(threads, lengths, density):
    lstm = note(nn.LSTM(64, 80, 2, bidirectional=True), density)
    x = pack_padded_sequence(torch.randn(20, len(lengths), 64), lengths)
    x.data.requires_grad_()
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        assert_same(lstm, x, states(lstm, len(lengths)))
    finally:
        torch.set_num_threads(before)


def test_the_outputs_of_packed_sequences_are_packed_alike():
    lstm = nn.LSTM(5, 6, bidirectional=True)
    packed = pack_padded_sequence(torch.randn(6, 4, 5), [4, 1, 6, 4], enforce_sorted=False)
    ours, theirs = native_forward(lstm, packed)[0], lstm(packed)[0]
    torch.testing.assert_close(ours.data, theirs.data)
    for name in ("batch_sizes", "sorted_indices", "unsorted_indices"):
        assert torch.equal(getattr(ours, name), getattr(theirs, name))


@pytest.mark.parametrize("packed", [False, True])
def test_dropout_between_layers_draws_as_torch_does(packed):
    lstm = nn.LSTM(5, 6, 3, dropout=0.4)
    x = torch.randn(4, 3, 5, requires_grad=True)
    if packed:
        x = pack_padded_sequence(x.detach(), [4, 4, 2])
        x.data.requires_grad_()
    found = []
    for run in (native_forward, nn.LSTM.forward):
        torch.manual_seed(5)
        found.append(results(run, lstm, x))
    torch.testing.assert_close(*found, rtol=1e-5, atol=1e-5)
    assert not torch.equal(native_forward(lstm, x)[1][0], native_forward(lstm, x)[1][0])
    lstm.eval()
    assert_same(lstm, x)


@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode])
def test_agrees_without_gradients(mode, passes):
    lstm = note(nn.LSTM(5, 6, 2, bidirectional=True), 0.1)
    x = torch.randn(4, 16, 5)
    expected, (h, c) = lstm(x)
    leave_out_dormant(lstm.eval())
    with mode():
        found = lstm(x)
    torch.testing.assert_close(found, (expected, (h, c)))
    assert len(passes) == 4


def test_frozen_weights_and_inputs_get_no_gradient(passes):
    lstm = nn.LSTM(5, 6)
    lstm.weight_ih_l0.requires_grad_(False)
    x = torch.randn(4, 3, 5)
    grads = []
    for run in (native_forward, nn.LSTM.forward):
        lstm.zero_grad()
        run(lstm, x)[0].square().sum().backward()
        assert lstm.weight_ih_l0.grad is None
        grads.append(lstm.weight_hh_l0.grad.clone())
    torch.testing.assert_close(*grads)
    assert len(passes) == 1


@pytest.mark.filterwarnings("ignore:LSTM with projections is not supported with oneDNN")
@pytest.mark.parametrize(
    ("lstm", "dtype"),
    [
        (nn.LSTM(5, 6, proj_size=3), torch.float32),
        (nn.LSTM(5, 6).double(), torch.float64),
        (nn.LSTM(5, 6).bfloat16(), torch.bfloat16),
    ],
    ids=["projection", "float64", "bfloat16"],
)
def test_what_our_passes_do_not_do_is_torchs(lstm, dtype, passes):
    x = torch.randn(4, 3, 5, dtype=dtype)
    torch.testing.assert_close(native_forward(lstm, x), lstm(x), rtol=0, atol=0)
    assert not passes


def test_torchs_pass_runs_where_it_is_the_engine_or_types_are_mixed(passes, monkeypatch):
    lstm = nn.LSTM(5, 6)
    x = torch.randn(4, 3, 5)
    with torch.autocast("cpu", torch.bfloat16):
        assert native_forward(lstm, x)[0].dtype == torch.bfloat16
    monkeypatch.setattr(training, "_engine", "torch")
    assert torch.equal(native_forward(lstm, x)[0], lstm(x)[0])
    assert not passes


@pytest.mark.parametrize(
    ("shape", "hx"),
    [
        ((4, 3, 6), None),
        ((5,), None),
        ((0, 3, 5), None),
        ((1, 4, 3, 5), None),
        ((4, 3, 5), (1, 2, 6)),
        ((4, 3, 5), (1, 6)),
        ((4, 5), (1, 1, 6)),
    ],
)
def test_what_does_not_fit_is_said_as_torch_says_it(shape, hx):
    lstm = nn.LSTM(5, 6)
    arguments = (torch.randn(shape), None if hx is None else (torch.zeros(hx), torch.zeros(hx)))
    with pytest.raises((ValueError, RuntimeError)) as theirs:
        lstm(*arguments)
    leave_out_dormant(note(lstm, 0.05))
    with pytest.raises(theirs.type) as ours:
        lstm(*arguments)
    assert str(ours.value) == str(theirs.value)
    with pytest.raises(theirs.type) as ours:
        native_forward(lstm, *arguments)
    assert str(ours.value) == str(theirs.value)


def test_states_of_another_type_are_torchs_to_refuse(passes):
    lstm = nn.LSTM(5, 6)
    hx = [state.double() for state in states(lstm, 3)]
    with pytest.raises((ValueError, RuntimeError)):
        native_forward(lstm, torch.randn(4, 3, 5), hx)
    assert not passes


def test_a_batch_of_no_sequences_is_torchs_to_run(passes):
    lstm = nn.LSTM(5, 6)
    assert native_forward(lstm, torch.zeros(4, 0, 5))[0].shape == (4, 0, 6)
    assert not passes


def calls(lstm, x, passes):
    """Whether a call of the module went to our passes; it gives torch's values either way."""
    passes.clear()
    outputs, expected = lstm(x)[0], nn.LSTM.forward(lstm, x)[0]
    if isinstance(x, PackedSequence):
        outputs, expected = outputs.data, expected.data
    torch.testing.assert_close(outputs, expected)
    return bool(passes)


@pytest.mark.parametrize("batch_first", [False, True])
def test_taken_where_it_pays(passes, batch_first):
    def batch(sequences):
        return torch.randn(*((sequences, 3) if batch_first else (3, sequences)), 20)

    lstm = nn.LSTM(20, 20, batch_first=batch_first)
    leave_out_dormant(lstm)
    assert not calls(lstm, batch(16), passes)  # nothing noted
    note(lstm, 1.0)
    assert not calls(lstm, batch(16), passes)
    note(lstm, 0.33)
    assert not calls(lstm, batch(16), passes)
    note(lstm, 0.25)
    assert calls(lstm, batch(16), passes)
    assert calls(lstm, batch(30), passes)
    assert not calls(lstm, batch(17), passes)  # 15 of the 32 places stay empty
    assert not calls(lstm, batch(4), passes)
    assert not calls(lstm, torch.randn(3, 20), passes)
    note(lstm, 0.005)
    assert calls(lstm, batch(4), passes)
    assert calls(lstm, torch.randn(3, 20), passes)
    with torch.no_grad():
        lstm.weight_ih_l0.add_(0.1)  # voids the note
        lstm.weight_hh_l0.add_(0.1)
    assert not calls(lstm, batch(16), passes)


@pytest.mark.parametrize(("inputs", "pays"), [(1, True), (20, True), (200, False)])
def test_a_dense_matrix_takes_its_share_of_the_time(passes, inputs, pays):
    lstm = note(nn.LSTM(inputs, 20), 0.01)
    leave_out_dormant(lstm)
    training.note_active(lstm.weight_ih_l0, None)
    assert (inputs / (inputs + 20) + 0.03 < PAYS_BELOW) == pays
    assert calls(lstm, torch.randn(3, 16, inputs), passes) == pays


def test_blocks_pay_sooner(passes):
    lstm = nn.LSTM(20, 20)
    leave_out_dormant(lstm)
    for blocks, pays in ((False, False), (True, True)):
        for weight in (lstm.weight_ih_l0, lstm.weight_hh_l0):
            mask = torch.rand(5, 1, 20) < 0.5
            mask = mask.expand(5, 16, 20).reshape(80, 20).clone()
            mask[0, 0] ^= not blocks
            with torch.no_grad():
                weight.mul_(mask)
            training.note_active(weight, training.ActiveConnections(mask.numpy(), True))
        assert calls(lstm, torch.randn(3, 16, 20), passes) == pays


def test_packed_sequences_pay_sooner(passes):
    lstm = note(nn.LSTM(20, 20), 0.3)
    leave_out_dormant(lstm)
    x = torch.randn(3, 16, 20)
    assert not calls(lstm, x[:, :14], passes)  # two of 16 places stay empty
    packed = pack_padded_sequence(x, [3] * 12 + [1] * 4)  # rows 16, 12, 12 in places 16, 16, 16
    assert calls(lstm, packed, passes)
    assert not calls(lstm, pack_padded_sequence(x[:, :4], [3] * 4), passes)
    note(lstm, 0.5)
    assert not calls(lstm, packed, passes)


def test_it_stays_an_lstm():
    lstm = note(nn.LSTM(20, 20), 0.05)
    before = repr(lstm), list(lstm.state_dict())
    leave_out_dormant(lstm)
    leave_out_dormant(lstm)
    assert type(lstm) is nn.LSTM
    assert (repr(lstm), list(lstm.state_dict())) == before
    x = torch.randn(3, 16, 20)
    torch.testing.assert_close(lstm(input=x, hx=None), nn.LSTM.forward(lstm, x))
    del lstm.forward
    assert torch.equal(lstm(x)[0], nn.LSTM.forward(lstm, x)[0])


def test_a_forward_of_its_own_is_left_alone():
    class Doubled(nn.LSTM):
        def forward(self, x, hx=None):
            return 2 * super().forward(x, hx)[0]

    lstm = note(Doubled(20, 20), 0.05)
    leave_out_dormant(lstm)
    x = torch.randn(3, 16, 20)
    assert torch.equal(lstm(x), 2 * nn.LSTM.forward(lstm, x)[0])
    wrapped = nn.LSTM(20, 20)
    wrapped.forward = lambda x: x
    leave_out_dormant(wrapped)
    assert wrapped(x) is x


def test_a_copy_computes_with_its_own_weights(passes):
    lstm = note(nn.LSTM(20, 20), 0.05)
    leave_out_dormant(lstm)
    twin = copy.deepcopy(lstm)
    x = torch.randn(3, 16, 20)
    torch.testing.assert_close(twin(x), lstm(x))
    nn.init.zeros_(lstm.weight_hh_l0)
    assert not torch.allclose(twin(x)[0], lstm(x)[0])
    assert not calls(twin, x, passes)
    assert calls(note(twin, 0.05), x, passes)


@pytest.mark.parametrize("save", ["torch", "pickle"])
def test_a_saved_module_is_torchs_own(save, passes, tmp_path):
    lstm = note(nn.LSTM(20, 20), 0.05)
    leave_out_dormant(lstm)
    x = torch.randn(3, 16, 20)
    expected = lstm(x)
    if save == "torch":
        torch.save(lstm, tmp_path / "lstm.pt")
        loaded = torch.load(tmp_path / "lstm.pt", weights_only=False)
    else:
        text = pickle.dumps(lstm)
        assert b"growprune." not in text
        loaded = pickle.loads(text)
    assert loaded.forward.__func__ is nn.LSTM.forward
    assert loaded.forward.__self__ is loaded
    torch.testing.assert_close(loaded(x), expected)
    leave_out_dormant(loaded)
    assert calls(note(loaded, 0.05), x, passes)


@pytest.mark.filterwarnings("ignore::DeprecationWarning:torch.jit")
@pytest.mark.filterwarnings("ignore::torch.jit.TracerWarning")
@pytest.mark.filterwarnings("ignore:The tensor attributes self._flat_weights")
@pytest.mark.parametrize("how", ["trace", "export", "strict export"])
def test_graphs_taken_down_hold_torchs_pass(how, passes):
    lstm = note(nn.LSTM(20, 20), 0.05)
    leave_out_dormant(lstm)
    x, other = torch.randn(2, 3, 16, 20)
    if how == "trace":
        graph = torch.jit.trace(lstm, (x,), check_trace=False)
    else:
        graph = torch.export.export(lstm, (x,), strict=how == "strict export").module()
    assert not passes
    torch.testing.assert_close(graph(other), nn.LSTM.forward(lstm, other))


def test_compiled_models_use_it(passes):
    lstm = note(nn.LSTM(20, 20), 0.05)
    leave_out_dormant(lstm)
    compiled = torch.compile(nn.Sequential(nn.Identity(), lstm), backend="eager")
    x = torch.randn(3, 16, 20)
    torch.testing.assert_close(compiled(x), nn.LSTM.forward(lstm, x))
    assert passes
