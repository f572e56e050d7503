"""The image encoder on a network of one mean, and on files that are no encoder."""

import json
import sys

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from growprune.data import resized
from growprune.errors import DataError, ModelFileError
from growprune.pipelines import ImageEncoder
from growprune.pipelines.image_encoder import METADATA

SIZE = 6
SETTINGS = {"name": "toy", "pool": 1, "width": 2, "size": SIZE, "mean": 0.25, "std": 0.5}
MATRIX = np.array([[1.0, 0.0], [0.0, 1.0], [-1.0, 2.0]], np.float32)  # colours to features


def write(path, settings=SETTINGS, size=SIZE, outputs=("features",), width=2):
    """An encoder whose features are sums of the mean colours."""
    nodes = [
        helper.make_node("GlobalAveragePool", ["images"], ["mean"]),
        helper.make_node("Flatten", ["mean"], ["colours"]),
        *(helper.make_node("MatMul", ["colours", "matrix"], [name]) for name in outputs),
    ]
    images = helper.make_tensor_value_info("images", TensorProto.FLOAT, ("n", 3, size, size))
    features = [
        helper.make_tensor_value_info(name, TensorProto.FLOAT, ("n", width)) for name in outputs
    ]
    constants = [numpy_helper.from_array(np.resize(MATRIX, (3, width)), "matrix")]
    graph = helper.make_graph(nodes, "toy", [images], features, constants)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    if settings is not None:
        text = settings if isinstance(settings, str) else json.dumps(settings)
        helper.set_model_props(model, {METADATA: text})
    onnx.save(model, path)
    return path


def noise(height, width, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), np.uint8)


@pytest.fixture
def encoder(tmp_path):
    return ImageEncoder(write(tmp_path / "toy.onnx"))


def test_features_are_those_of_scaled_squashed_pictures(encoder):
    images = [noise(SIZE, SIZE), noise(30, 4, 1), noise(1, 1, 2)]
    features = encoder.encode(images)
    assert features.dtype == np.float32
    for image, found in zip(images, features, strict=True):
        colours = resized(image, SIZE).astype(np.float64).mean(axis=(0, 1)) / 255
        np.testing.assert_allclose(found, (colours - 0.25) / 0.5 @ MATRIX, rtol=1e-5, atol=1e-6)


def test_a_picture_is_encoded_as_if_it_were_alone(encoder):
    images = [noise(7, 9, seed) for seed in range(5)]
    alone = np.concatenate([encoder.encode([image]) for image in images])
    np.testing.assert_array_equal(encoder.encode(images), alone)
    assert encoder.encode([]).shape == (0, 2)


def test_an_encoder_says_what_it_is(encoder, tmp_path):
    assert (encoder.name, encoder.pool, encoder.width) == ("toy", 1, 2)
    assert encoder.settings.size == SIZE
    assert encoder.path == tmp_path / "toy.onnx"


def fails(path, *parts, error=ModelFileError):
    with pytest.raises(error) as caught:
        ImageEncoder(path)
    text = str(caught.value)
    assert "\n" not in text
    for part in parts:
        assert part in text, text


def test_what_is_no_encoder_is_named(tmp_path):
    fails(tmp_path / "none.onnx", "none.onnx: no such file")
    fails(tmp_path, "no such file")
    path = tmp_path / "a.onnx"
    for content in (b"", b"not ONNX", write(path).read_bytes()[:-40]):
        path.write_bytes(content)
        fails(path, f"{path}: not an ONNX file that runs (")
    fails(write(path, settings=None), "not an image encoder: it needs an input images")
    fails(write(path, outputs=("vector",)), "not an image encoder")
    fails(write(path, outputs=("features", "more")), "not an image encoder")


WRONG = {
    "unknown key": (SETTINGS | {"depth": 3}, "unknown key 'depth'"),
    "missing": ({"name": "toy"}, "is missing"),
    "text": ("not JSON", "JSON"),
    "pool": (SETTINGS | {"pool": 0}, "'pool' is 0"),
    "std": (SETTINGS | {"std": 0}, "'std' is 0"),
    "name": (SETTINGS | {"name": ""}, "'name' is ''"),
    "size": (SETTINGS | {"size": 7}, "its settings do not fit its shapes"),
    "width": (SETTINGS | {"width": 3}, "its settings do not fit its shapes"),
}


@pytest.mark.parametrize("mistake", WRONG)
def test_wrong_settings_are_named(tmp_path, mistake):
    settings, line = WRONG[mistake]
    path = write(tmp_path / "toy.onnx", settings)
    fails(path, f"{path}: ", line)


def test_without_onnxruntime_it_says_what_to_install(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    fails(write(tmp_path / "a.onnx"), 'pip install "growprune[captioning]"', error=DataError)
