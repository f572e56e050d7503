"""Tables of features: nothing is lost by an interruption, and damage is one line."""

import json
import zipfile

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from growprune.data import FeatureTable, FeatureWriter, open_features
from growprune.errors import DataError

WIDTH = 3
ENCODER = {"name": "toy", "pool": 1}
NAMES = ["a.jpg", "b c.jpg", 'q"uote\n.jpg', "\u00fcn\u00ef.jpg", "e.jpg", "\udcff.jpg"]
FEATURES = np.random.default_rng(0).standard_normal((len(NAMES), WIDTH)).astype(np.float32)
HALF = FEATURES.astype(np.float16)


def write(folder, *counts, encoder=ENCODER):
    """Append rows in portions of these sizes, after what is there."""
    writer = FeatureWriter(folder, WIDTH, encoder)
    for count in counts:
        start = len(writer.done)
        writer.append(NAMES[start : start + count], FEATURES[start : start + count])
    return writer


def check(table, rows=6):
    assert table.names == tuple(NAMES[:rows])
    assert len(table) == rows
    assert table.width == WIDTH
    np.testing.assert_array_equal(table.features, HALF[:rows])


def fails(action, *parts, error=DataError):
    with pytest.raises(error) as caught:
        action()
    text = str(caught.value)
    assert "\n" not in text
    for part in parts:
        assert part in text, text


def test_what_is_written_is_read_as_half_precision(tmp_path):
    writer = write(tmp_path / "table", 2, 1, 3)
    assert writer.done == set(NAMES)
    table = open_features(tmp_path / "table")
    check(table)
    assert table.encoder == ENCODER | {"width": WIDTH}
    assert isinstance(table.features, np.memmap)
    wanted = [NAMES[4], NAMES[0], NAMES[4]]
    rows = table.rows(wanted)
    assert rows.dtype == np.float32
    np.testing.assert_array_equal(rows, HALF[[4, 0, 4]].astype(np.float32))
    np.testing.assert_array_equal(table.row(NAMES[2]), HALF[2].astype(np.float32))
    assert NAMES[1] in table
    assert "other.jpg" not in table
    # It is an ordinary file of NumPy's, and of no more than its rows.
    np.testing.assert_array_equal(np.load(tmp_path / "table" / "features.npy"), HALF)
    assert (tmp_path / "table" / "features.npy").stat().st_size == 128 + HALF.nbytes


def test_a_table_may_be_empty(tmp_path):
    write(tmp_path / "table")
    table = open_features(tmp_path / "table")
    check(table, 0)
    assert table.rows([]).shape == (0, WIDTH)


def test_rows_may_be_many(tmp_path):
    """More digits in the number of rows do not move them."""
    names, rows = [str(number) for number in range(12_000)], np.zeros((12_000, 1), np.float32)
    rows[:, 0] = np.arange(12_000) % 2048
    writer = FeatureWriter(tmp_path, 1, {})
    for start, end in ((0, 9), (9, 10), (10, 9_999), (9_999, 12_000)):
        writer.append(names[start:end], rows[start:end])
    table = open_features(tmp_path)
    np.testing.assert_array_equal(table.rows(names), rows)
    assert table.rows(["10000"])[0, 0] == 10_000 % 2048


def states_of_an_append(folder):
    """The files as an append leaves them when it is stopped at any byte, as the disk orders it."""
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    write(folder, 2)
    after = {path.name: path.read_bytes() for path in folder.iterdir()}
    head = len(before["features.npy"]) - 2 * 2 * WIDTH
    for end in range(len(before["features.npy"]), len(after["features.npy"]) + 1):
        rows = before["features.npy"][:head] + after["features.npy"][head:end]
        yield before | {"features.npy": rows}
    grown = before["features.npy"][:head] + after["features.npy"][head:]
    for end in range(len(before["names.jsonl"]), len(after["names.jsonl"]) + 1):
        yield before | {"features.npy": grown, "names.jsonl": after["names.jsonl"][:end]}


def test_an_append_that_is_interrupted_at_any_byte_leaves_the_rows_before_it(tmp_path):
    folder = tmp_path / "table"
    write(folder, 2)
    states = list(states_of_an_append(folder))
    assert len(states) > 40
    for state in states:
        for name, content in state.items():
            (folder / name).write_bytes(content)
        check(open_features(folder), 2)
        writer = write(folder)
        assert writer.done == set(NAMES[:2])
        write(folder, 1, 3)
        check(open_features(folder))
        assert (folder / "features.npy").stat().st_size == 128 + HALF.nbytes
        assert (folder / "names.jsonl").read_text().count("\n") == len(NAMES)


def test_a_beginning_that_is_interrupted_begins_again(tmp_path):
    folder = tmp_path / "table"
    write(folder)
    (folder / "features.npy").unlink()
    (folder / ".features.npy.xyz.npy").touch()
    write(folder, 6)
    check(open_features(folder))
    (folder / "features.npy").unlink()
    (folder / "names.jsonl").unlink()
    write(folder, 6)
    check(open_features(folder))


def test_an_append_that_fails_may_be_repeated(tmp_path, monkeypatch):
    """As on a full disk: whatever was written of it is written over."""
    from growprune.data import image_features

    folder = tmp_path / "table"
    writer = write(folder, 1)
    whole = image_features._write_end

    def half(path, start, content):
        whole(path, start, content[: len(content) // 2])
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(image_features, "_write_end", half)
    fails(lambda: writer.append(NAMES[1:3], FEATURES[1:3]), "No space left", "free some space")
    monkeypatch.setattr(image_features, "_write_end", whole)
    check(open_features(folder), 1)
    assert writer.done == set(NAMES[:1])
    writer.append(NAMES[1:], FEATURES[1:])
    check(open_features(folder))


def test_writing_goes_on_with_the_same_encoder_only(tmp_path):
    write(tmp_path, 2)
    fails(
        lambda: write(tmp_path, encoder=ENCODER | {"pool": 2}),
        "was computed by name toy, pool 1, width 3, not by name toy, pool 2, width 3",
        "name a new folder",
    )
    fails(lambda: FeatureWriter(tmp_path, 4, ENCODER), "width 3, not by name toy, pool 1, width 4")
    write(tmp_path, 4)
    check(open_features(tmp_path))


def test_something_else_is_not_written_over(tmp_path):
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "thesis.tex").touch()
    (tmp_path / "file").touch()
    for name in ("other", "file"):
        fails(lambda name=name: write(tmp_path / name), f"{name}: holds something else")
    assert [path.name for path in (tmp_path / "other").iterdir()] == ["thesis.tex"]
    empty = tmp_path / "new" / "below"
    write(empty, 6)
    check(open_features(empty))


def test_rows_that_cannot_be_are_refused(tmp_path):
    writer = write(tmp_path, 2)
    fails(lambda: writer.append(["x"], np.zeros((1, 4))), "not (1, 3)", error=ValueError)
    fails(lambda: writer.append(["x"], np.zeros((2, 3))), "not (1, 3)", error=ValueError)
    fails(lambda: writer.append([NAMES[0]], FEATURES[:1]), "a.jpg is in the", error=ValueError)
    fails(lambda: writer.append(["x", "x"], FEATURES[:2]), "has features of x twice")
    for value in (np.nan, np.inf, 70_000.0):
        rows = FEATURES[2:4].copy()
        rows[1, 2] = value
        fails(lambda rows=rows: writer.append(["x", "y"], rows), "features of y are not finite")
    check(open_features(tmp_path), 2)
    write(tmp_path, 4)
    check(open_features(tmp_path))


def saved(path, **arrays):
    np.savez(path, **arrays)
    return path


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64", ">f4"])
def test_ready_made_features(tmp_path, dtype):
    names = np.array(["b.jpg", "a.jpg"])
    path = saved(tmp_path / "f.npz", names=names, features=FEATURES[:2].astype(dtype))
    table = open_features(path)
    assert table.names == ("b.jpg", "a.jpg")
    assert table.encoder is None
    wanted = FEATURES[[1, 0]].astype(dtype).astype(np.float32)
    np.testing.assert_array_equal(table.rows(["a.jpg", "b.jpg"]), wanted)
    np.savez_compressed(path, names=names, features=FEATURES[:2])
    np.testing.assert_array_equal(open_features(str(path)).row("a.jpg"), FEATURES[1])


GOOD = {"names": np.array(["a", "b"]), "features": FEATURES[:2]}
TABLES = {
    "no names": ({"features": FEATURES}, "has no array 'names"),
    "no features": ({"names": np.array(["a"])}, "has no array 'features"),
    "bytes": (GOOD | {"names": np.array([b"a", b"b"])}, "names are |S1 of shape (2,)"),
    "numbers": (GOOD | {"names": np.arange(2)}, "names are int64"),
    "table of names": (GOOD | {"names": np.array([["a", "b"]])}, "of shape (1, 2); they must be"),
    "too few": (GOOD | {"names": np.array(["a"])}, "1 names for 2 rows"),
    "twice": (GOOD | {"names": np.array(["a", "a"])}, "has features of a twice"),
    "integers": (GOOD | {"features": np.ones((2, 3), int)}, "features are int64 of shape (2, 3)"),
    "flat": (GOOD | {"features": np.ones(2)}, "of shape (2,); they must be floats of shape"),
    "no width": (GOOD | {"features": np.ones((2, 0))}, "of shape (2, 0)"),
    "not finite": (GOOD | {"features": np.array([[1.0], [np.nan]])}, "features of b are not fin"),
    "objects": (GOOD | {"names": np.array(["a", None])}, "Object arrays cannot be loaded"),
}


@pytest.mark.parametrize("mistake", TABLES)
def test_wrong_ready_made_features_are_named(tmp_path, mistake):
    arrays, line = TABLES[mistake]
    path = saved(tmp_path / "f.npz", **arrays)
    fails(lambda: open_features(path), f"{path}: ", line)


def test_other_files_are_named(tmp_path):
    missing = tmp_path / "none"
    fails(lambda: open_features(missing), f"{missing}: no such file", f"-o {missing}")
    fails(lambda: open_features(tmp_path), "features.npy: cannot be read (No such file")
    np.save(tmp_path / "f.npy", FEATURES)
    fails(lambda: open_features(tmp_path / "f.npy"), "not a .npz file of names and features (a si")
    for content in (b"", b"not a zip", b"\x93NUMPY", b"PK\x03\x04"):
        (tmp_path / "f.npz").write_bytes(content)
        fails(lambda: open_features(tmp_path / "f.npz"), "f.npz: not a .npz file of names and feat")


def test_a_file_that_asks_for_more_memory_than_there_is_is_named(tmp_path):
    head = {"descr": "<f4", "fortran_order": False, "shape": (2**40, 2**20)}
    with zipfile.ZipFile(tmp_path / "f.npz", "w") as file:
        with file.open("names.npy", "w") as part:
            np.save(part, np.array(["a"]))
        with file.open("features.npy", "w") as part:
            np.lib.format.write_array_header_1_0(part, head)
    fails(lambda: open_features(tmp_path / "f.npz"), "f.npz: not a .npz file of names and feat")


def damage(content, data):
    """Change, cut or repeat a few bytes."""
    content = bytearray(content)
    for _ in range(data.draw(st.integers(1, 3))):
        place = data.draw(st.integers(0, max(0, len(content) - 1)))
        kind = data.draw(st.sampled_from(["change", "cut", "repeat"]))
        if kind == "cut":
            del content[place:]
        elif kind == "repeat":
            content[place:place] = content[place : place + 5]
        elif content:
            content[place] = data.draw(st.integers(0, 255))
    return bytes(content)


def opens_or_fails(path):
    """Open a damaged table: what is there is finite and named, or there is one line."""
    try:
        table = open_features(path)
    except DataError as error:
        line = str(error)
    else:
        assert np.isfinite(table.rows(table.names)).all()
        return
    assert str(path) in line
    assert "\n" not in line


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """A table's folder, and its files' content."""
    folder = tmp_path_factory.mktemp("whole") / "table"
    write(folder, 6)
    return folder, {path.name: path.read_bytes() for path in folder.iterdir()}


@settings(max_examples=150, deadline=None)
@given(st.sampled_from(["features.npy", "names.jsonl", "encoder.json"]), st.data())
def test_a_damaged_table_is_read_or_named(whole, name, data):
    folder, files = whole
    for other, content in files.items():
        (folder / other).write_bytes(damage(content, data) if other == name else content)
    opens_or_fails(folder)


@settings(max_examples=150, deadline=None)
@given(st.booleans(), st.data())
def test_damaged_ready_made_features_are_read_or_named(tmp_path_factory, compressed, data):
    path = tmp_path_factory.getbasetemp() / "damaged.npz"
    (np.savez_compressed if compressed else np.savez)(path, **GOOD)
    path.write_bytes(damage(path.read_bytes(), data))
    opens_or_fails(path)


def test_damage_is_told_by_file(tmp_path):
    write(tmp_path, 6)
    files = {path.name: path.read_bytes() for path in tmp_path.iterdir()}

    def damaged(name, content, *parts):
        (tmp_path / name).write_bytes(content)
        fails(lambda: open_features(tmp_path), *parts)
        (tmp_path / name).write_bytes(files[name])

    features = files["features.npy"]
    damaged("features.npy", features[:-1], "features.npy: is cut short; compute")
    damaged("features.npy", features[:50], "features.npy: not a table of features (")
    damaged("features.npy", features.replace(b"<f2", b"<f4"), "float32 of shape (6, 3)")
    damaged("features.npy", features.replace(b"False", b"True "), "of shape (6, 3)")
    nan = features[:-2] + np.float16(np.nan).tobytes()
    damaged("features.npy", nan, f"the features of {NAMES[-1]} are not finite")
    names = files["names.jsonl"]
    damaged("names.jsonl", names[:20], "its names.jsonl or encoder.json is damaged")
    damaged("names.jsonl", names.replace(b"e.jpg", b"a.jpg"), "has features of a.jpg twice")
    damaged("names.jsonl", b"\xff" + names, "is damaged")
    damaged("encoder.json", b"{", "its names.jsonl or encoder.json is damaged")
    damaged("encoder.json", b"[]", "does not describe features that are 3 wide")
    damaged("encoder.json", json.dumps({"width": 4}).encode(), "features that are 3 wide")
    (tmp_path / "names.jsonl").unlink()
    fails(lambda: open_features(tmp_path), "names.jsonl: cannot be read (No such file")


def test_missing_images_and_another_width_are_named(tmp_path):
    table = FeatureTable(("a", "b"), FEATURES[:2], "table")
    table.require(["b", "a", "b"], width=3)
    table.require([])
    fails(lambda: table.require(["a", "x"]), "table: no features of x; compute them with growprune")
    fails(lambda: table.rows(["z", "a", "y", "x", "w", "v"]), "of z, y, x (and 2 more); compute")
    fails(lambda: table.row("x"), "no features of x")
    fails(lambda: table.require(["a"], width=5), "features are 3 wide, but the model takes 5")


def test_the_ready_made_features_of_flickr8k(real_data):
    table = open_features(real_data / "flickr8k" / "features_efficientnet_lite0_f16.npz")
    assert (len(table), table.width) == (8091, 1280)
    assert table.rows(["1000268201_693b08cb0e.jpg"]).dtype == np.float32
