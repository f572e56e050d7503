import numpy as np
import pytest

from growprune import runtime
from growprune.bench import torch_network
from growprune.bench.engines import one_thread, onnxruntime_session
from growprune.bench.onnx_network import network, step, whole
from growprune.runtime import PackedModel, StoredMatrix
from growprune.runtime.graph import Node

RNG = np.random.default_rng(0)


def matrix(rows, columns):
    values = RNG.standard_normal((rows, columns)).astype(np.float32) * 0.4
    return StoredMatrix("dense", values.shape, values.size, {"values": values})


def vector(size):
    return RNG.standard_normal(size).astype(np.float32) * 0.3


def packed(features, nodes, matrices=None, vectors=None, takes_ids=False):
    """Nodes given as (op, attributes, parameters), each reading the one before."""
    made, before = [], "input"
    for number, (op, attributes, parameters) in enumerate(nodes):
        made.append(Node(f"{op} {number}", op, (before,), attributes, parameters))
        before = made[-1].name
    return PackedModel(features, takes_ids, tuple(made), before, matrices or {}, vectors or {})


def check(model, x, tolerance=2e-5):
    wanted, _ = runtime.build(model, "test").run(x)
    (found,) = onnxruntime_session(network(model)).run(None, {"input": x})
    np.testing.assert_allclose(found, wanted, rtol=tolerance, atol=tolerance)
    with one_thread():
        found = torch_network.network(model)(x)
    np.testing.assert_allclose(found, wanted, rtol=tolerance, atol=tolerance)
    assert np.abs(wanted).max() > 1e-3


def sequence(*features, time=9):
    return RNG.standard_normal((1, time, *features)).astype(np.float32)


@pytest.mark.parametrize("reverse", [False, True])
@pytest.mark.parametrize("depths", [[0, 0, 0, 0], [1, 1, 1, 1], [0, 2, 1, 3]])
def test_lstm_and_hlstm(depths, reverse):
    matrices, vectors, attributes, parameters = lstm_parts(5, 6, 7, depths, reverse)
    check(packed((5,), [("lstm", attributes, parameters)], matrices, vectors), sequence(5))


def lstm_parts(width, hidden, inner, depths, reverse):
    names = [f"{g}_{s}" for g, d in zip("ifgo", depths, strict=True) for s in range(1, d + 1)]
    last = {f"{g}_{d}" for g, d in zip("ifgo", depths, strict=True)}
    rows = sum(inner if depth else hidden for depth in depths)
    matrices = {"ih": matrix(rows, width), "hh": matrix(rows, hidden)}
    matrices |= {name: matrix(hidden if name in last else inner, inner) for name in names}
    vectors = {"bias": vector(rows)}
    vectors |= {f"bias_{n}": vector(hidden if n in last else inner) for n in names}
    attributes = {"reverse": reverse, "slope": 0.01, "depths": depths}
    return matrices, vectors, attributes, {name: name for name in (*matrices, *vectors)}


@pytest.mark.parametrize("reverse", [False, True])
def test_gru(reverse):
    matrices = {"ih": matrix(12, 5), "hh": matrix(12, 4)}
    vectors = {"bias": vector(12), "bias_new": vector(4)}
    parameters = {name: name for name in (*matrices, *vectors)}
    nodes = [("gru", {"reverse": reverse}, parameters)]
    check(packed((5,), nodes, matrices, vectors), sequence(5))


@pytest.mark.parametrize(("stride", "padding"), [(1, [1, 1]), (2, [2, 0])])
def test_convolution_over_time(stride, padding):
    attributes = {"kernel": [3], "stride": [stride], "dilation": [1], "padding": [padding]}
    nodes = [("convolution", attributes, {"weight": "w", "bias": "b"})]
    check(packed((4,), nodes, {"w": matrix(6, 12)}, {"b": vector(6)}), sequence(4))


def test_convolution_over_time_and_positions_after_a_reshape_and_before_a_permutation():
    attributes = {
        "kernel": [3, 2], "stride": [2, 1], "dilation": [1, 2], "padding": [[1, 1], [0, 1]],
    }  # fmt: skip
    nodes = [
        ("reshape", {"features": [5, 2]}, {}),
        ("convolution", attributes, {"weight": "w", "bias": "b"}),
        ("permute", {"order": [1, 0]}, {}),
    ]
    check(packed((10,), nodes, {"w": matrix(6, 12)}, {"b": vector(6)}), sequence(10))


@pytest.mark.parametrize(
    ("op", "attributes"),
    [
        ("relu", {}), ("leaky_relu", {"slope": 0.1}), ("sigmoid", {}), ("tanh", {}), ("silu", {}),
        ("softmax", {}), ("log_softmax", {}), ("gelu", {"tanh": False}), ("gelu", {"tanh": True}),
        ("hardtanh", {"low": -0.5, "high": 0.25}), ("first", {}), ("last", {}), ("mean", {}),
    ],
)  # fmt: skip
def test_operations_without_weights(op, attributes):
    check(packed((7,), [(op, attributes, {})]), sequence(7))


def test_norms_and_linear_layers():
    nodes = [
        ("layer_norm", {"epsilon": 1e-5}, {"weight": "g", "bias": "h"}),
        ("affine", {}, {"scale": "s", "shift": "t"}),
        ("linear", {}, {"weight": "w", "bias": "b"}),
    ]
    vectors = {"g": vector(5), "h": vector(5), "s": vector(5), "t": vector(5), "b": vector(3)}
    check(packed((5,), nodes, {"w": matrix(3, 5)}, vectors), sequence(5))


def test_sums_and_concatenations():
    nodes = (
        Node("a", "relu", ("input",)),
        Node("b", "tanh", ("input",)),
        Node("sum", "add", ("a", "b", "input")),
        Node("output", "concatenate", ("sum", "a")),
    )
    check(PackedModel((4,), False, nodes, "output", {}, {}), sequence(4))


def test_ids_are_looked_up():
    model = packed((), [("embedding", {}, {"weight": "w"})], {"w": matrix(9, 4)}, takes_ids=True)
    check(model, RNG.integers(0, 9, (1, 6)))


def test_zeros_are_filled_in():
    sparse = StoredMatrix(
        "csr", (2, 3), 2,
        {"starts": np.array([0, 1, 2], np.int32), "columns": np.array([2, 0], np.int32),
         "values": np.array([5, 7], np.float32)},
    )  # fmt: skip
    np.testing.assert_array_equal(whole(sparse), [[0, 0, 5], [7, 0, 0]])


@pytest.mark.parametrize("depths", [[0, 0, 0, 0], [1, 1, 1, 1], [0, 2, 1, 3]])
def test_steps_carry_states_as_ours_do(depths):
    width, hidden = 5, 6
    matrices, vectors, attributes, parameters = lstm_parts(width, hidden, 7, depths, False)
    matrices["w"], vectors["b"] = matrix(4, hidden), vector(4)
    nodes = [
        ("lstm", attributes, parameters),
        ("linear", {}, {"weight": "w", "bias": "b"}),
        ("log_softmax", {}, {}),
    ]
    model = packed((width,), nodes, matrices, vectors)
    made, carried = step(model)
    assert carried == {"lstm 0": hidden}
    session, ours = onnxruntime_session(made), runtime.build(model, "test")
    x = RNG.standard_normal((4, 3, width)).astype(np.float32)  # 4 steps of 3 rows
    state, theirs = None, np.zeros((2, 3, hidden), np.float32)
    for rows in x:
        wanted, state = ours.step(rows, state)
        found, *theirs = session.run(
            None, {"input": rows, "lstm 0/h": theirs[0], "lstm 0/c": theirs[1]}
        )
        np.testing.assert_allclose(found, wanted, rtol=2e-5, atol=2e-5)
