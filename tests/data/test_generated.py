"""Made-up corpora appear whole or not at all; what is kept between runs has one place."""

import json
from pathlib import Path

import pytest

from growprune.data import LITE0, LITE0_SHA256, encoder_cache, lite0_path
from growprune.data.generated import generate
from growprune.errors import DataError

MARKER = "settings.json"


def fill(text, calls=None):
    def write(folder):
        if calls is not None:
            calls.append(folder)
        (folder / "a.txt").write_text(text)

    return write


def test_a_corpus_is_made_once_for_its_settings(tmp_path):
    folder, calls = tmp_path / "new" / "corpus", []
    for _ in range(2):
        generate(folder, {"seed": 1}, fill("one", calls), marker=MARKER)
    assert len(calls) == 1
    assert (folder / "a.txt").read_text() == "one"
    assert json.loads((folder / MARKER).read_text()) == {"seed": 1}
    assert [path.name for path in folder.parent.iterdir()] == ["corpus"]


def test_other_settings_replace_it_whole(tmp_path):
    folder = tmp_path / "corpus"
    generate(folder, {"seed": 1}, lambda f: (f / "old.txt").touch(), marker=MARKER)
    generate(folder, {"seed": 2}, fill("two"), marker=MARKER)
    assert sorted(path.name for path in folder.iterdir()) == ["a.txt", MARKER]
    assert [path.name for path in tmp_path.iterdir()] == ["corpus"]


def test_a_failure_leaves_what_was_there(tmp_path):
    folder = tmp_path / "corpus"
    generate(folder, {"seed": 1}, fill("one"), marker=MARKER)

    def full(target):
        (target / "a.txt").write_text("half")
        raise OSError(28, "No space left on device")

    with pytest.raises(DataError, match=r"corpus: the corpus cannot be written .*No space left"):
        generate(folder, {"seed": 2}, full, marker=MARKER)
    assert (folder / "a.txt").read_text() == "one"
    assert json.loads((folder / MARKER).read_text()) == {"seed": 1}
    assert [path.name for path in tmp_path.iterdir()] == ["corpus"]
    with pytest.raises(ZeroDivisionError):  # a mistake of ours is no matter of disks
        generate(folder, {"seed": 2}, lambda _: 1 // 0, marker=MARKER)
    with pytest.raises(DataError, match="cannot be written"):
        generate(
            folder, {"seed": 2}, lambda _: 1 // 0, marker=MARKER, failures=(ZeroDivisionError,)
        )


def test_other_files_are_not_replaced(tmp_path):
    (tmp_path / "thesis.tex").touch()
    with pytest.raises(DataError, match="holds other files; choose a new or empty folder"):
        generate(tmp_path, {"seed": 1}, fill("one"), marker=MARKER)
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.tex"]
    empty = tmp_path / "empty"
    empty.mkdir()
    generate(empty, {"seed": 1}, fill("one"), marker=MARKER)
    assert (empty / "a.txt").read_text() == "one"


@pytest.mark.parametrize("content", ["", "[]", "{", "\xff"])
def test_a_damaged_marker_is_no_corpus_of_ours(tmp_path, content):
    (tmp_path / MARKER).write_bytes(content.encode("latin-1"))
    with pytest.raises(DataError, match="holds other files"):
        generate(tmp_path, {"seed": 1}, fill("one"), marker=MARKER)


def test_a_file_in_the_way_is_named(tmp_path):
    (tmp_path / "corpus").touch()
    with pytest.raises(DataError, match="corpus: "):
        generate(tmp_path / "corpus", {"seed": 1}, fill("one"), marker=MARKER)
    with pytest.raises(DataError, match="cannot be written"):
        generate(tmp_path / "corpus" / "below", {"seed": 1}, fill("one"), marker=MARKER)
    assert [path.name for path in tmp_path.iterdir()] == ["corpus"]


PLACES = {
    "linux": ({}, "home/.cache/growprune"),
    "linux, XDG": ({"XDG_CACHE_HOME": "/x"}, "/x/growprune"),
    "linux, XDG empty": ({"XDG_CACHE_HOME": ""}, "home/.cache/growprune"),
    "darwin": ({}, "home/Library/Caches/growprune"),
    "win32": ({}, "home/AppData/Local/growprune"),
    "win32, local": ({"LOCALAPPDATA": "/local"}, "/local/growprune"),
    "linux, chosen": ({"GROWPRUNE_CACHE": "/c", "XDG_CACHE_HOME": "/x"}, "/c"),
}


@pytest.mark.parametrize("system", PLACES)
def test_encoders_are_kept_where_the_system_keeps_such_things(system, monkeypatch):
    variables, wanted = PLACES[system]
    for name in ("GROWPRUNE_CACHE", "XDG_CACHE_HOME", "LOCALAPPDATA"):
        monkeypatch.delenv(name, raising=False)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(encoder_cache.sys, "platform", system.split(",")[0])
    monkeypatch.setattr(Path, "home", lambda: Path("home"))
    paths = [lite0_path(pool) for pool in (1, 2)]
    assert [path.parent for path in paths] == [Path(wanted)] * 2
    assert paths[0] != paths[1]
    assert all(path.name.startswith(f"{LITE0}-pool") for path in paths)
    assert all(LITE0_SHA256[:16] in path.name for path in paths)
