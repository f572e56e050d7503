"""Every layer against a slow reference of a few lines."""

import math

import numpy as np
import pytest
from networks import Network

LAYOUTS = [("dense",), ("csr", 0.3), ("blocks", 0.3), ("csr", 0.3, True), ("blocks", 0.3, True)]


def close(found, expected, atol=1e-5):
    assert found.dtype == np.float32
    assert found.shape == expected.shape
    np.testing.assert_allclose(found, expected, rtol=0, atol=atol)


def whole(net, name):
    """A stored matrix as it is read: by its product with the identity."""
    from growprune import native

    matrix = net.matrices[name]
    return native.product(matrix.prepare(), np.eye(matrix.shape[1], dtype=np.float32)).T


@pytest.mark.parametrize("matrix", LAYOUTS, ids=str)
def test_linear(matrix):
    net = Network([9])
    net.add("y", "linear", None, {"weight": (37, 9, *matrix), "bias": 37})
    x = net.numbers(2, 5, 9)
    expected = x @ whole(net, "y.weight").T + net.vectors["y.bias"]
    close(net.model().run(x)[0], expected)


@pytest.mark.parametrize("matrix", LAYOUTS, ids=str)
@pytest.mark.parametrize(
    ("kernel", "stride", "dilation", "padding"),
    [(1, 1, 1, (0, 0)), (3, 1, 1, (2, 0)), (4, 3, 2, (1, 6)), (2, 5, 1, (0, 1)), (5, 2, 1, (0, 0))],
)
def test_convolution(matrix, kernel, stride, dilation, padding):
    net = Network([4])
    net.convolution("y", 4, 18, kernel, stride, padding, dilation=dilation, matrix=matrix)
    weight, bias = whole(net, "y.weight").reshape(18, kernel, 4), net.vectors["y.bias"]
    x = net.numbers(2, 17, 4)
    padded = np.pad(x, ((0, 0), padding, (0, 0)))
    steps = (17 + sum(padding) - (kernel - 1) * dilation - 1) // stride + 1
    expected = np.zeros((2, steps, 18))
    for t in range(steps):
        for k in range(kernel):
            expected[:, t] += padded[:, t * stride + k * dilation] @ weight[:, k].T
    found, lengths = net.model().run(x)
    close(found, expected + bias)
    assert lengths.tolist() == [steps, steps]


def test_convolution_over_two_axes():
    net = Network([7, 2])
    net.add(
        "y",
        "convolution",
        None,
        {"weight": (3, 4 * 3 * 2), "bias": 3},
        kernel=[4, 3],
        stride=[2, 3],
        dilation=[1, 2],
        padding=[[3, 0], [1, 2]],
    )
    weight, bias = whole(net, "y.weight").reshape(3, 4, 3, 2), net.vectors["y.bias"]
    x = net.numbers(2, 9, 7, 2)
    padded = np.pad(x, ((0, 0), (3, 0), (1, 2), (0, 0)))
    expected = np.zeros((2, 5, 2, 3))
    for t in range(5):
        for p in range(2):
            for k in range(4):
                for j in range(3):
                    expected[:, t, p] += padded[:, 2 * t + k, 3 * p + 2 * j] @ weight[:, k, j].T
    close(net.model().run(x)[0], expected + bias)


def test_a_convolution_sees_zeros_beyond_each_sequence():
    """The padding of the convolution's own input is not zero: a bias comes before."""
    net = Network([4])
    net.add("x", "linear", None, {"weight": (4, 4), "bias": 4})
    net.convolution("y", 4, 3, 5, stride=2, padding=(2, 2))
    x = net.numbers(3, 12, 4)
    together, lengths = net.model().run(x, [12, 5, 8])
    assert lengths.tolist() == [6, 3, 4]
    for row, length in enumerate([12, 5, 8]):
        alone, (count,) = net.model().run(x[row : row + 1, :length])
        close(together[row, :count], alone[0])
        assert not together[row, count:].any()


FUNCTIONS = {
    "relu": ({}, lambda x: max(x, 0)),
    "leaky_relu": ({"slope": 0.3}, lambda x: x if x > 0 else 0.3 * x),
    "hardtanh": ({"low": -0.5, "high": 20}, lambda x: min(max(x, -0.5), 20)),
    "sigmoid": ({}, lambda x: 1 / (1 + math.exp(-x))),
    "tanh": ({}, math.tanh),
    "silu": ({}, lambda x: x / (1 + math.exp(-x))),
    "gelu": ({"tanh": False}, lambda x: x * (1 + math.erf(x / math.sqrt(2))) / 2),
    "gelu with tanh": (
        {"tanh": True},
        lambda x: x * (1 + math.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3))) / 2,
    ),
}


@pytest.mark.parametrize("name", FUNCTIONS)
def test_activations(name):
    attributes, function = FUNCTIONS[name]
    net = Network([33])
    net.add("y", name.split()[0], **attributes)
    x = np.linspace(-30, 30, 2 * 3 * 33, dtype=np.float32).reshape(2, 3, 33)
    close(net.model().run(x)[0], np.vectorize(function, [float])(x.astype(float)), atol=5e-6)


@pytest.mark.parametrize("op", ["softmax", "log_softmax"])
def test_softmax(op):
    net = Network([5])
    net.add("y", op)
    x = np.array([[[1.0, 2.0, 3.0, 4.0, 5.0], [1000.0, 0.0, 0.0, 0.0, 999.0]]], np.float32)
    found, _ = net.model().run(x)
    powers = np.exp(x.astype(np.float64) - x.max(axis=-1, keepdims=True))
    expected = powers / powers.sum(axis=-1, keepdims=True)
    if op == "log_softmax":
        found = np.exp(found)
    close(found, expected, atol=1e-6)


def test_norms():
    net = Network([6])
    net.add("y", "layer_norm", None, {"weight": 6, "bias": 6}, epsilon=0.01)
    net.add("z", "affine", None, {"scale": 6, "shift": 6})
    x = net.numbers(2, 4, 6)
    v = net.vectors
    deviation = np.sqrt(x.var(axis=-1, keepdims=True) + 0.01)
    normal = (x - x.mean(axis=-1, keepdims=True)) / deviation
    expected = normal * v["y.weight"] + v["y.bias"]
    close(net.model().run(x)[0], expected * v["z.scale"] + v["z.shift"])


def test_joins_and_reshapes():
    net = Network([6])
    net.add("a", "reshape", ["input"], features=[2, 3])
    net.add("b", "permute", ["a"], order=[1, 0])
    net.add("c", "reshape", ["b"], features=[6])
    net.add("d", "add", ["c", "input", "input"])
    net.add("e", "concatenate", ["d", "input"])
    x = net.numbers(2, 3, 6)
    turned = x.reshape(2, 3, 2, 3).transpose(0, 1, 3, 2).reshape(2, 3, 6)
    close(net.model().run(x)[0], np.concatenate([turned + 2 * x, x], axis=-1))


@pytest.mark.parametrize("op", ["first", "last", "mean"])
@pytest.mark.parametrize("lengths", [None, [3, 5, 1]])
def test_one_result_per_sequence(op, lengths):
    net = Network([4])
    net.add("x", "linear", None, {"weight": (4, 4), "bias": 4})
    net.add("y", op)
    x = net.numbers(3, 5, 4)
    steps = x @ whole(net, "x.weight").T + net.vectors["x.bias"]
    rows = [row[: length or 5] for row, length in zip(steps, lengths or [5] * 3, strict=True)]
    pick = {"first": lambda r: r[0], "last": lambda r: r[-1], "mean": lambda r: r.mean(axis=0)}
    found, counts = net.model().run(x, lengths)
    close(found, np.stack([pick[op](row) for row in rows]))
    assert counts is None
    assert not net.model().keeps_time


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


@pytest.mark.parametrize("reverse", [False, True])
def test_lstm_by_its_equations(reverse):
    """With gates of different depths: i has one later stage, g two, f and o none."""
    net = Network([3])
    hidden, first = 5, 4 + 5 + 6 + 5
    sizes = {"ih": (first, 3), "hh": (first, hidden), "bias": first, "i_1": (5, 4), "bias_i_1": 5}
    sizes |= {"g_1": (2, 6), "bias_g_1": 2, "g_2": (5, 2), "bias_g_2": 5}
    net.add("y", "lstm", None, sizes, reverse=reverse, slope=0.25, depths=[1, 0, 2, 0])
    m = {name: whole(net, name) for name in net.matrices}
    v = net.vectors
    x, lengths = net.numbers(2, 6, 3), [6, 4]
    expected = np.zeros((2, 6, hidden))
    for row, length in enumerate(lengths):
        h, c = np.zeros(hidden), np.zeros(hidden)
        for t in reversed(range(length)) if reverse else range(length):
            z = m["y.ih"] @ x[row, t] + m["y.hh"] @ h + v["y.bias"]
            z = dict(zip("ifgo", np.split(z, [4, 9, 15]), strict=True))
            for gate, stage in [("i", 1), ("g", 1), ("g", 2)]:
                a = np.where(z[gate] > 0, z[gate], 0.25 * z[gate])
                z[gate] = m[f"y.{gate}_{stage}"] @ a + v[f"y.bias_{gate}_{stage}"]
            c = sigmoid(z["f"]) * c + sigmoid(z["i"]) * np.tanh(z["g"])
            h = sigmoid(z["o"]) * np.tanh(c)
            expected[row, t] = h
    close(net.model().run(x, lengths)[0], expected)


def test_gru_by_its_equations():
    net = Network([3])
    net.gru("y", 3, 4)
    m, v = {name: whole(net, name) for name in net.matrices}, net.vectors
    x = net.numbers(1, 6, 3)
    expected, h = [], np.zeros(4)
    for t in range(6):
        from_x = np.split(m["y.ih"] @ x[0, t] + v["y.bias"], 3)
        from_h = np.split(m["y.hh"] @ h, 3)
        r, z = sigmoid(from_x[0] + from_h[0]), sigmoid(from_x[1] + from_h[1])
        n = np.tanh(from_x[2] + r * (from_h[2] + v["y.bias_new"]))
        h = (1 - z) * n + z * h
        expected.append(h)
    close(net.model().run(x)[0], np.array(expected)[None])
