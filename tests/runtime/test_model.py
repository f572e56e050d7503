"""Running a whole network: batches, single steps, streams, and wrong calls."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from networks import Network, everything


def recurrent():
    net = Network([3])
    net.add("x", "linear", None, {"weight": (5, 3), "bias": 5})
    net.lstm("lstm", 5, 4)
    net.gru("gru", 4, 6)
    net.add("both", "concatenate", ["lstm", "gru"])
    return net


@pytest.mark.parametrize("batch", [1, 3, 64])
def test_steps_are_a_sequence(batch):
    net = recurrent()
    model, x = net.model(), net.numbers(batch, 7, 3)
    whole, lengths = model.run(x)
    assert lengths.tolist() == [7] * batch
    state, outputs = None, []
    for t in range(7):
        y, state = model.step(x[:, t], state)
        outputs.append(y)
    np.testing.assert_allclose(np.stack(outputs, 1), whole, rtol=0, atol=1e-6)
    assert [array.shape for array in state] == [(batch, 4), (batch, 4), (batch, 6)]


def test_states_can_be_picked_and_repeated():
    """As a beam search does; a state that was given is not changed."""
    net = recurrent()
    model, x = net.model(), net.numbers(3, 4, 3)
    _, state = model.step(x[:, 0])
    kept = [array.copy() for array in state]
    order = [2, 0, 0, 1]
    found, _ = model.step(x[order, 1], tuple(array[order] for array in state))
    direct, _ = model.step(x[:, 1], state)
    np.testing.assert_allclose(found, direct[order], atol=1e-6)
    for before, after in zip(kept, state, strict=True):
        assert np.array_equal(before, after)


def test_causal_convolutions_step():
    net = Network([3])
    net.convolution("a", 3, 4, 3, padding=(4, 0), dilation=2)
    net.lstm("b", 4, 5)
    net.convolution("c", 5, 2, 2, padding=(1, 0))
    model, x = net.model(), net.numbers(2, 9, 3)
    whole, _ = model.run(x)
    state, outputs = None, []
    for t in range(9):
        y, state = model.step(x[:, t], state)
        outputs.append(y)
    np.testing.assert_allclose(np.stack(outputs, 1), whole, rtol=0, atol=1e-6)


@pytest.mark.parametrize("layout", ["dense", "csr", "blocks"])
@pytest.mark.parametrize("int8", [False, True])
@pytest.mark.parametrize("rows", [9, 32, 37])
def test_rows_of_a_table_are_looked_up_in_any_layout(layout, int8, rows):
    net = Network([], takes_ids=True)
    whole = net.matrix("table", rows, 7, layout, 0.4, int8)
    net.add("x", "embedding")
    net.nodes[-1].parameters["weight"] = "table"
    model, ids = net.model(), np.arange(2 * rows).reshape(2, -1) % rows
    found, _ = model.run(ids)
    assert found.dtype == np.float32
    assert np.array_equal(found, whole[ids])
    assert np.array_equal(model.step(ids[:, -1])[0], whole[ids[:, -1]])
    with pytest.raises(ValueError, match=f"ids must lie in 0 to {rows - 1}, got {rows} to"):
        model.step(np.array([rows]))


def test_ids_step_by_step():
    net = Network([], takes_ids=True)
    net.matrix("table", 9, 5)
    net.add("x", "embedding")
    net.nodes[-1].parameters["weight"] = "table"
    net.lstm("y", 5, 4)
    model, ids = net.model(), np.array([[1, 8, 0], [4, 4, 2]])
    whole, _ = model.run(ids)
    padded, _ = model.run(np.array([[1, 8, -1], [4, 4, 2]]), [2, 3])  # any id may pad
    np.testing.assert_allclose(padded[0, :2], whole[0, :2], atol=1e-6)
    first, state = model.step(ids[:, 0])
    second, _ = model.step(ids[:, 1], state)
    np.testing.assert_allclose(np.stack([first, second], 1), whole[:, :2], atol=1e-6)
    stream = model.stream(2)
    streamed = np.concatenate(
        [stream.push(ids[:, :1]), stream.push(ids[:, 1:]), stream.finish()], 1
    )
    np.testing.assert_allclose(streamed, whole, atol=1e-6)


def streamed(model, x, cuts):
    stream = model.stream(len(x))
    pieces = [stream.push(piece) for piece in np.split(x, cuts, axis=1)]
    return np.concatenate([*pieces, stream.finish()], axis=1)


@settings(max_examples=60, deadline=None)
@given(
    time=st.integers(1, 40),
    cuts=st.lists(st.integers(0, 40), max_size=8),
    batch=st.sampled_from([1, 3]),
)
def test_streams_do_not_depend_on_the_pieces(time, cuts, batch):
    net = everything()
    model, x = net.model(), net.numbers(batch, time, 6)
    whole, _ = model.run(x)
    cuts = sorted(min(cut, time) for cut in cuts)
    np.testing.assert_allclose(streamed(model, x, cuts), whole, rtol=0, atol=1e-5)


@settings(max_examples=150, deadline=None)
@given(data=st.data())
def test_streams_of_any_convolutions(data):
    """Kernels, strides beyond them, dilation, looking ahead, branches with different delays."""
    net = Network([2])
    for index in range(data.draw(st.integers(1, 3), "convolutions")):
        kernel, dilation = data.draw(st.integers(1, 4)), data.draw(st.integers(1, 3))
        reach = (kernel - 1) * dilation
        padding = data.draw(st.integers(0, reach)), data.draw(st.integers(0, reach))
        stride = data.draw(st.integers(1, 6))
        before = net.output
        net.convolution(f"c{index}", 2, 2, kernel, stride, padding, dilation=dilation)
        if stride == 1 and reach == sum(padding):
            net.add(f"s{index}", "add", [before, f"c{index}"])
    model = net.model()
    time = data.draw(st.integers(model.least_steps, model.least_steps + 30), "time")
    x = net.numbers(1, time, 2)
    cuts = sorted(data.draw(st.lists(st.integers(0, time), max_size=6), "cuts"))
    whole, (length,) = model.run(x)
    assert whole.shape[1] == length >= 1
    np.testing.assert_allclose(streamed(model, x, cuts), whole, rtol=0, atol=1e-5)
    if time > 1 and model.least_steps > 1:
        with pytest.raises(ValueError, match=f"must have {model.least_steps} "):
            model.run(x[:, : model.least_steps - 1])


def test_an_output_comes_as_soon_as_its_input_is_there():
    net = Network([2])
    net.convolution("causal", 2, 3, 3, stride=2, padding=(2, 0))
    stream = net.model().stream()
    frames = np.zeros((1, 1, 2), np.float32)
    assert [stream.push(frames).shape[1] for _ in range(5)] == [1, 0, 1, 0, 1]
    net = Network([2])
    net.convolution("ahead", 2, 3, 3, padding=(1, 1))
    stream = net.model().stream()
    assert [stream.push(frames).shape[1] for _ in range(3)] == [0, 1, 1]
    assert stream.finish().shape == (1, 1, 3)


def test_a_stream_of_nothing_gives_nothing():
    net = Network([2])
    net.convolution("y", 2, 3, 3, padding=(2, 2))
    assert net.model().stream(2).finish().shape == (2, 0, 3)


def test_streams_side_by_side_do_not_disturb_each_other():
    net = everything()
    model, x = net.model(), net.numbers(2, 12, 6)
    whole, _ = model.run(x)
    first, second = model.stream(), model.stream()
    pieces = [(first.push(x[:1, t : t + 4]), second.push(x[1:, t : t + 4])) for t in (0, 4, 8)]
    found = [
        np.concatenate([*(piece[row] for piece in pieces), stream.finish()], 1)[0]
        for row, stream in enumerate((first, second))
    ]
    np.testing.assert_allclose(np.stack(found), whole, rtol=0, atol=1e-5)


def test_what_prevents_streams_and_steps_is_named():
    net = Network([3])
    net.lstm("back", 3, 4, reverse=True)
    with pytest.raises(ValueError, match="cannot stream: 'back' reads the sequence from its end"):
        net.model().stream()
    with pytest.raises(ValueError, match="cannot run step by step: 'back' reads the sequence"):
        net.model().step(net.numbers(1, 3))
    net = Network([3])
    net.add("all", "mean")
    with pytest.raises(ValueError, match="'all' gives one result for the whole sequence"):
        net.model().stream()
    assert "'all' gives one result" in net.model().not_streamable
    net = Network([3])
    net.convolution("conv", 3, 2, 2)
    with pytest.raises(ValueError, match="'conv' does not give one step for each"):
        net.model().step(net.numbers(1, 3))


def test_wrong_calls_are_named():
    net = recurrent()
    model, x = net.model(), net.numbers(2, 4, 3)
    for call, message in [
        (lambda: model.run(x[0]), r"x must have shape \(batch, time, 3\), got \(4, 3\)"),
        (lambda: model.run(x[:, :, :2]), r"x must have shape \(batch, time, 3\), got \(2, 4, 2\)"),
        (lambda: model.run(x.astype(int)), "x must hold floating numbers, got int64"),
        (lambda: model.run(x[:0]), "x holds no sequence"),
        (lambda: model.run(x, [4]), r"lengths must be 2 integers, got int64 \(1,\)"),
        (lambda: model.run(x, [4.0, 2.0]), "lengths must be 2 integers, got float64"),
        (lambda: model.run(x, [4, 5]), r"must have 1 \(the model's least\) to 4 \(in x\) steps"),
        (lambda: model.run(x, [4, 0]), "got 0 to 4"),
        (lambda: model.run(x[:, :0]), "got 0 to 0"),
        (lambda: model.step(x), r"x must have shape \(batch, 3\), got \(2, 4, 3\)"),
        (lambda: model.step(x[:, 0], ()), "state must hold 3 arrays"),
        (lambda: model.stream(0), "batch must be at least 1, got 0"),
        (lambda: model.stream(1).push(x), "2 sequences, but the stream was begun with 1"),
    ]:
        with pytest.raises(ValueError, match=message):
            call()
    stream = model.stream(2)
    stream.finish()
    for call in (stream.finish, lambda: stream.push(x)):
        with pytest.raises(ValueError, match="the stream is finished; begin another one"):
            call()


def test_inputs_are_left_as_they_are():
    net = everything()
    model, x = net.model(), net.numbers(2, 9, 6)
    before = x.copy()
    model.run(x, [9, 4])
    streamed(model, x, [3, 5])
    assert np.array_equal(x, before)
    found, _ = model.run(x.astype(np.float64))
    np.testing.assert_array_equal(found, model.run(x)[0])


def test_a_model_tells_its_matrices():
    rows = {row.name: row for row in everything().model().matrices}
    assert rows["lstm.ih"].layout == "blocks"
    assert rows["lstm.ih"].shape == (80, 5)
    assert rows["wide.weight"].weights == "int8"
    assert rows["lstm.hh"].active == 80 * 20
    assert rows["lstm.hh"].density == 1.0
    assert rows["lstm.hh"].nbytes == 4 * 80 * 20
