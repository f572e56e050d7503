"""Damages packed files at random and loads them: an error of our own, or a model that runs.

    python tests/runtime/fuzz.py --seconds 600 [--seed 0]

Prints how many files were refused and how many loaded, and leaves the first file that made
trouble behind. `test_hostile.py` runs the same for a moment.
"""

import argparse
import itertools
import json
import random
import struct
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from networks import Network, everything, with_parts

from growprune import runtime
from growprune.errors import ModelFileError
from growprune.runtime.packed_file import KEY

NASTY = [0, 1, -1, 2, 15, 17, 2**31 - 1, 2**31, 2**63, 10**30, 0.5, -1.5, 1e300, True, False, None]
NASTY += ["", "input", "dense", "csr", "blocks", "lstm", "relu", [], {}, [0], [1, 1], [[0, 0]]]
_HEADER = struct.Struct("<Q")
_NOTHING_LEFT = (ValueError, LookupError, TypeError, AttributeError, struct.error)
"""What the next fault meets where an earlier one left no whole file to edit."""


def valid_files():
    """Small packed files that together hold every layout and operation."""
    gates = Network([3])
    sizes = {"ih": (20, 3), "hh": (20, 5), "bias": 20, "i_1": (5, 4), "bias_i_1": 5}
    sizes |= {"g_1": (2, 6), "bias_g_1": 2, "g_2": (5, 2, "csr"), "bias_g_2": 5}
    gates.add("gates", "lstm", None, sizes, reverse=True, slope=0.25, depths=[1, 0, 2, 0])
    gates.add("act", "hardtanh", low=-1.0, high=20)
    gates.add("gelu", "gelu", tanh=False)
    gates.add("last", "last")
    words = Network([], takes_ids=True)
    words.matrix("table", 37, 5, "blocks", int8=True)
    words.add("embedding", "embedding")
    words.nodes[-1].parameters["weight"] = "table"
    words.add("image", "reshape", features=[5, 1])
    sizes = {"weight": (17, 6, "blocks"), "bias": 17}
    settings = {"stride": [2, 1], "dilation": [1, 1], "padding": [[1, 0], [0, 1]]}
    words.add("over both", "convolution", None, sizes, kernel=[2, 3], **settings)
    words.add("flat", "reshape", features=[68])
    for op in ("sigmoid", "tanh", "silu", "softmax"):
        words.add(op, op)
    with tempfile.TemporaryDirectory() as folder:
        nets = [net.packed(info={"letters": "AB"}) for net in (everything(), gates, words)]
        for net in (*nets, with_parts()):
            path = Path(folder) / "valid.safetensors"
            runtime.write(path, net)
            yield path.read_bytes()


def damaged(valid: bytes, rng: random.Random) -> bytes:
    """The file with one to three faults."""
    for _ in range(rng.choice([1, 1, 2, 3])):
        fault = rng.choice(
            [_flip, _cut, _edit_description, _edit_description, _edit_array, _edit_header]
        )
        try:
            valid = fault(valid, rng)
        except _NOTHING_LEFT:
            continue
    return valid


def survives(path: Path, rng: random.Random) -> bool:
    """Load a file and run it where it loads; whether it did. Raises what must not happen."""
    try:
        model = runtime.load(path)
    except ModelFileError as error:
        refusal = str(error)
    else:
        refusal = ""
    if refusal:
        assert refusal.startswith(f"{path}: ")
        assert len(refusal) < 2000, refusal
        return False
    packed = runtime.packed_file.read(path)
    for network in (packed, *packed.parts.values()):
        assert_inside(network)
    for network in (model, *model.parts.values()):
        run_once(network, rng)
    return True


def assert_inside(packed: runtime.PackedModel) -> None:
    """Every index of every matrix lies inside of it: read here once more, entry by entry."""
    for matrix in packed.matrices.values():
        rows, columns = matrix.shape
        if matrix.layout == "dense":
            assert matrix.arrays["values"].shape == (rows, columns)
            continue
        groups, name, limit = rows, "columns", columns
        if matrix.layout == "blocks":
            groups, name, limit = columns, "panels", (rows + 15) // 16
        starts, indices = matrix.arrays["starts"].tolist(), matrix.arrays[name].tolist()
        assert len(starts) == groups + 1
        assert len(indices) == len(matrix.arrays["values"])
        seen = []
        for start, end in itertools.pairwise(starts):
            group = indices[start:end]
            assert len(group) == end - start
            assert all(0 <= index < limit for index in group)
            assert len(set(group)) == len(group)
            seen += group
        assert seen == indices


def run_once(model: runtime.Model, rng: random.Random) -> None:
    """Run a model on a small input, as a whole and in two pieces, and compare the shapes."""
    batch, time_ = rng.choice([1, 3]), rng.choice([1, 5, 9])
    if model.least_steps > 10_000 or np.prod([*model.features, 1], dtype=float) > 1e6:
        return
    time_ = max(time_, model.least_steps)
    shape = (batch, time_, *model.features)
    x = np.zeros(shape, np.int64) if model.takes_ids else np.ones(shape, np.float32)
    y, lengths = model.run(x, [time_] + [model.least_steps] * (batch - 1))
    if lengths is None:
        assert y.shape == (batch, *model.output_features)
        return
    assert y.shape == (batch, lengths.max(), *model.output_features)
    if model.not_streamable is None:
        stream = model.stream(batch)
        pieces = [stream.push(x[:, :2]), stream.push(x[:, 2:]), stream.finish()]
        assert np.concatenate(pieces, 1).shape == (
            batch,
            model.run(x)[1][0],
            *model.output_features,
        )


def _flip(data: bytes, rng: random.Random) -> bytes:
    found = bytearray(data)
    for _ in range(rng.choice([1, 1, 4, 30])):
        found[rng.randrange(len(found))] = rng.randrange(256)
    return bytes(found)


def _cut(data: bytes, rng: random.Random) -> bytes:
    place = rng.randrange(1, len(data))
    return rng.choice([data[:place], data[:place] + data[place - 1 :], data + data[:place]])


def _edit_description(data: bytes, rng: random.Random) -> bytes:
    header, body = _parts(data)
    description = json.loads(header["__metadata__"][KEY])
    _edit_json(description, rng)
    header["__metadata__"][KEY] = json.dumps(description)
    return _joined(header, body)


def _edit_header(data: bytes, rng: random.Random) -> bytes:
    header, body = _parts(data)
    name = rng.choice(sorted(header))
    if rng.random() < 0.2:
        header[rng.choice([f"{name}x", "lstm.bias", "other"])] = header.pop(name)
    elif name != "__metadata__":
        _edit_json(header[name], rng)
    return _joined(header, body)


def _edit_array(data: bytes, rng: random.Random) -> bytes:
    """Change one number of one array."""
    header, body = _parts(data)
    name = rng.choice(sorted(set(header) - {"__metadata__"}))
    start, end = header[name]["data_offsets"]
    kind = {"F32": "<f4", "I32": "<i4", "I8": "<i1"}[header[name]["dtype"]]
    array = np.frombuffer(body[start:end], kind).copy()
    values: list[float] = [0, 1, -1, 2, 16, 127]
    values += [np.nan, np.inf, 1e30] if kind == "<f4" else []
    values += [2**31 - 1, -(2**31)] if kind == "<i4" else []
    array[rng.randrange(len(array))] = rng.choice(values)
    return _joined(header, body[:start] + array.tobytes() + body[end:])


def _edit_json(tree, rng: random.Random) -> None:
    """Replace, remove, repeat or exchange something anywhere in a tree of JSON."""
    while True:
        keys = sorted(tree) if isinstance(tree, dict) else list(range(len(tree)))
        if not keys:
            return
        key = rng.choice(keys)
        if not isinstance(tree[key], dict | list) or not tree[key] or rng.random() < 0.1:
            break
        tree = tree[key]
    action = rng.randrange(6)
    if action == 0:
        del tree[key]
    elif action == 1 and isinstance(tree, list):
        tree.insert(rng.randrange(len(tree) + 1), tree[key])
    elif action == 2:
        other = rng.choice(keys)
        tree[key], tree[other] = tree[other], tree[key]
    elif type(tree[key]) is int and action == 3:
        tree[key] += rng.choice([-1, 1])
    else:
        tree[key] = rng.choice(NASTY)


def _parts(data: bytes):
    (length,) = _HEADER.unpack(data[:8])
    return json.loads(data[8 : 8 + length]), data[8 + length :]


def _joined(header, body: bytes) -> bytes:
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    return _HEADER.pack(len(text)) + text + body


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    files, counts = list(valid_files()), [0, 0]
    end, seed = time.monotonic() + arguments.seconds, arguments.seed
    np.seterr(all="ignore")  # damaged weights may overflow
    path = Path(tempfile.mkdtemp()) / "damaged.safetensors"
    while time.monotonic() < end:
        rng = random.Random(seed)
        path.write_bytes(damaged(rng.choice(files), rng))
        try:
            counts[survives(path, rng)] += 1
        except BaseException:
            print(f"seed {seed} made trouble; the file is {path}", file=sys.stderr)
            raise
        seed += 1
    path.unlink()
    path.parent.rmdir()
    print(f"{sum(counts)} damaged files: {counts[0]} refused, {counts[1]} loaded and ran")


if __name__ == "__main__":
    main()
