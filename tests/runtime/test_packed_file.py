import json
from dataclasses import replace

import numpy as np
import pytest
from networks import Network, everything, with_parts
from safetensors import safe_open

from growprune import runtime
from growprune.errors import DataError
from growprune.runtime.packed_file import KEY, read


def test_the_format_is_what_its_page_says(tmp_path):
    """The whole description of a small model, as docs/packed-models.md gives it."""
    net = Network([3])
    net.add("fc", "linear", None, {"weight": (2, 3), "bias": 2})
    net.add("scores", "log_softmax")
    weight = net.matrices["fc.weight"].arrays["values"]
    runtime.write(tmp_path / "x.safetensors", net.packed(info={"task": "toy"}))
    with safe_open(tmp_path / "x.safetensors", framework="numpy") as file:
        assert list(file.metadata()) == [KEY]
        description = json.loads(file.metadata()[KEY])
        arrays = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    assert description == {
        "format": "growprune packed model",
        "version": 1,
        "input": {"ids": False, "features": [3]},
        "nodes": [
            {
                "name": "fc",
                "op": "linear",
                "inputs": ["input"],
                "attributes": {},
                "parameters": {"weight": "fc.weight", "bias": "fc.bias"},
            },
            {
                "name": "scores",
                "op": "log_softmax",
                "inputs": ["fc"],
                "attributes": {},
                "parameters": {},
            },
        ],
        "output": "scores",
        "matrices": {"fc.weight": {"layout": "dense", "shape": [2, 3], "active": 6}},
        "info": {"task": "toy"},
    }
    assert set(arrays) == {"fc.weight:values", "fc.bias"}
    assert np.array_equal(arrays["fc.weight:values"], weight)
    assert np.array_equal(arrays["fc.bias"], net.vectors["fc.bias"])


def test_what_is_written_is_read(tmp_path):
    net = everything()
    packed = net.packed(info={"letters": "AB", "nested": {"list": [1, 2.5, None, True]}})
    runtime.write(tmp_path / "x.safetensors", packed)
    found = read(tmp_path / "x.safetensors")
    assert found.nodes == packed.nodes
    assert (found.features, found.takes_ids, found.output) == ((6,), False, "scores")
    assert found.info == packed.info
    assert found.nbytes == packed.nbytes
    for name, matrix in packed.matrices.items():
        assert (found.matrices[name].layout, found.matrices[name].shape) == (
            matrix.layout,
            matrix.shape,
        )
        for part, array in matrix.arrays.items():
            assert np.array_equal(found.matrices[name].arrays[part], array)
            assert found.matrices[name].arrays[part].dtype == array.dtype
    x = net.numbers(2, 7, 6)
    loaded = runtime.load(tmp_path / "x.safetensors")
    assert np.array_equal(loaded.run(x)[0], net.model().run(x)[0])


def test_parts_share_arrays_and_run_by_themselves(tmp_path):
    packed = with_parts({"task": "toy"})
    runtime.write(tmp_path / "x.safetensors", packed)
    with safe_open(tmp_path / "x.safetensors", framework="numpy") as file:
        names = sorted(file.keys())
    dense, sparse = ("values",), ("columns", "starts", "values")
    stored = {"image.weight": sparse, "lstm.hh": dense, "lstm.ih": dense, "out.weight": dense}
    matrices = [f"{name}:{part}" for name, parts in stored.items() for part in parts]
    assert names == sorted([*matrices, "image.bias", "lstm.bias", "out.bias"])
    found = read(tmp_path / "x.safetensors")
    assert set(found.matrices) == {"lstm.ih", "lstm.hh", "out.weight"}
    assert set(found.vectors) == {"lstm.bias", "out.bias"}
    model = runtime.load(tmp_path / "x.safetensors")
    assert model.info == {"task": "toy"}
    assert set(model.parts) == {"words", "image"}
    table = packed.matrices["out.weight"].arrays["values"]
    assert np.array_equal(model.parts["words"].step(np.array([8, 0]))[0], table[[8, 0]])
    x = np.random.default_rng(0).standard_normal((2, 3, 7)).astype(np.float32)
    for part, wanted in model.parts.items():
        alone = runtime.build(packed.parts[part], "alone")
        given = np.array([[3, 1]]) if part == "words" else x
        assert np.array_equal(wanted.run(given)[0], alone.run(given)[0])
    y = model.run(model.parts["image"].run(x)[0])[0]
    assert np.array_equal(y, runtime.build(packed, "x").run(model.parts["image"].run(x)[0])[0])


def test_parts_must_not_disagree_on_a_name(tmp_path):
    packed = with_parts()
    image = packed.parts["image"]
    vectors = {name: vector + 1 for name, vector in image.vectors.items()}
    parts = {"image": image, "other": replace(image, vectors=vectors)}
    with pytest.raises(ValueError, match=r"different arrays of the name 'image\.bias'"):
        runtime.write(tmp_path / "x.safetensors", replace(packed, parts=parts))


def test_the_same_model_gives_the_same_bytes(tmp_path):
    for name in "ab":
        runtime.write(tmp_path / name, everything().packed())
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


def test_info_must_be_json(tmp_path):
    net = Network([3])
    net.add("y", "relu")
    for info, error in [({"x": {1, 2}}, TypeError), ({"x": float("nan")}, ValueError)]:
        with pytest.raises(error, match="JSON"):
            runtime.write(tmp_path / "x.safetensors", net.packed(info=info))
    assert list(tmp_path.iterdir()) == []


def test_an_unwritable_folder_is_named(tmp_path):
    (tmp_path / "file").write_text("")
    net = Network([3])
    net.add("y", "relu")
    with pytest.raises(DataError, match="cannot be written"):
        runtime.write(tmp_path / "file" / "x.safetensors", net.packed())


def test_a_full_disk_is_named_and_leaves_nothing(tmp_path, small_disk):
    net = Network([40])
    net.add("fc", "linear", None, {"weight": (40, 40), "bias": 40})
    with pytest.raises(DataError, match=r"x\.safetensors: cannot be written"):
        runtime.write(tmp_path / "x.safetensors", net.packed())
    assert list(tmp_path.iterdir()) == []
