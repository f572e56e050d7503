import numpy as np
import pytest
import torch
import torch.nn.functional as F

from growprune import native

INFINITY = np.float32(np.inf)


def every_magnitude():
    """Floats of both signs over the whole range, dense where the functions bend."""
    bits = np.arange(0, 0x7F800000, 4001, dtype=np.uint32)  # denormals to the largest
    positive = np.concatenate([bits.view(np.float32), np.linspace(0, 110, 200_001, dtype="f4")])
    return np.concatenate([positive, -positive])


def ulps(found, exact):
    """Error in units of the last place of the exact value, those of the denormals at least."""
    return np.abs(found - exact) / np.spacing(np.maximum(np.abs(exact), 1.2e-38).astype("f4"))


def test_sigmoid_over_the_whole_range(path):
    x = every_magnitude()
    found = native.sigmoid(x)
    negative = np.exp(np.minimum(x, 0).astype(np.float64))
    exact = np.where(x < 0, negative, 1) / (1 + np.exp(-np.abs(x.astype(np.float64))))
    normal = exact >= 1.2e-38
    assert ulps(found, exact)[normal].max() < 4
    assert (np.abs(found - exact)[~normal] <= 1.2e-38).all()
    assert ((found >= 0) & (found <= 1)).all()


def test_tanh_over_the_whole_range(path):
    x = every_magnitude()
    found = native.tanh(x)
    exact = np.tanh(x.astype(np.float64))
    assert ulps(found, exact).max() < 4
    assert (np.abs(found) <= 1).all()
    np.testing.assert_array_equal(found, -native.tanh(-x))


def test_limits(path):
    x = np.array([-INFINITY, -0.0, 0.0, INFINITY, np.nan], np.float32)
    np.testing.assert_array_equal(native.sigmoid(x)[1:], [0.5, 0.5, 1, np.nan])
    assert 0 <= native.sigmoid(x)[0] <= 1.2e-38
    np.testing.assert_array_equal(native.tanh(x), [-1, 0, 0, 1, np.nan])
    np.testing.assert_array_equal(native.leaky_relu(x, 0.1), [-INFINITY, 0, 0, INFINITY, np.nan])


@pytest.mark.parametrize("shape", [(), (1,), (7,), (3, 5), (2, 3, 37)])
def test_shapes(path, rng, shape):
    x = rng.standard_normal(shape).astype(np.float32)
    x = np.asarray(x, np.float32)
    tensor = torch.from_numpy(x)
    np.testing.assert_allclose(native.sigmoid(x), tensor.sigmoid(), rtol=1e-6)
    np.testing.assert_allclose(native.tanh(x), tensor.tanh(), rtol=1e-6)
    np.testing.assert_allclose(native.leaky_relu(x, 0.3), F.leaky_relu(tensor, 0.3), rtol=1e-6)


@pytest.mark.parametrize("shape", [(1,), (7,), (3, 5), (2, 3, 37), (4, 64)])
def test_over_the_last_axis(path, rng, shape):
    x = rng.standard_normal(shape).astype(np.float32) * 5 + 3
    weight, bias = rng.standard_normal((2, shape[-1])).astype(np.float32)
    tensor = torch.from_numpy(x)
    norm = F.layer_norm(tensor, shape[-1:], torch.from_numpy(weight), torch.from_numpy(bias), 1e-5)
    np.testing.assert_allclose(native.layer_norm(x, weight, bias, 1e-5), norm, rtol=1e-5, atol=1e-5)
    softmax = F.log_softmax(tensor, -1)
    np.testing.assert_allclose(native.log_softmax(x), softmax, rtol=1e-5, atol=1e-6)


def test_log_softmax_of_large_values(path):
    x = np.array([[1e4, 0, -1e4], [-1e30, -1e30, -1e30]], np.float32)
    expected = [[0, -1e4, -2e4], [-np.log(3)] * 3]
    np.testing.assert_allclose(native.log_softmax(x), expected, rtol=1e-6)


def test_wrong_arguments_are_refused():
    with pytest.raises(TypeError, match="x must be a NumPy array of float32, got list"):
        native.sigmoid([1.0])
    with pytest.raises(ValueError, match="at least one feature"):
        native.log_softmax(np.empty((2, 0), np.float32))
    x = np.ones((2, 3), np.float32)
    with pytest.raises(ValueError, match=r"weight must have shape \(3,\), got \(4,\)"):
        native.layer_norm(x, np.ones(4, np.float32), np.ones(3, np.float32), 1e-5)
