import errno
import os

import pytest

from growprune.errors import DataError
from growprune.files import clear_leftovers, make_folder, replacing, write_bytes, write_text


def test_a_file_appears_whole(tmp_path):
    path = tmp_path / "new" / "a.txt"
    write_text(path, "één")
    assert path.read_text(encoding="utf-8") == "één"
    assert [entry.name for entry in path.parent.iterdir()] == ["a.txt"]


def test_a_failed_block_leaves_the_old_file_and_no_trace(tmp_path):
    path = tmp_path / "a.txt"
    write_text(path, "old")

    def fail():
        with replacing(path) as temporary:
            temporary.write_text("half")
            raise KeyError("x")

    with pytest.raises(KeyError):
        fail()
    assert path.read_text() == "old"
    assert [entry.name for entry in tmp_path.iterdir()] == ["a.txt"]


def test_a_full_disk_is_named_and_leaves_no_half_file(tmp_path):
    def fill():
        with replacing(tmp_path / "a.txt") as temporary:
            temporary.write_text("half")
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with pytest.raises(DataError, match=r"a\.txt: the disk is full; free some space"):
        fill()
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_cannot_be_made_is_named(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(DataError, match="cannot be written"):
        write_text(tmp_path / "file" / "a.txt", "x")


def test_bytes_that_find_no_room_leave_the_old_file(tmp_path, small_disk):
    write_bytes(tmp_path / "a.bin", b"old")
    with pytest.raises(DataError, match=r"a\.bin: cannot be written \(File too large\)"):
        write_bytes(tmp_path / "a.bin", bytes(2000))
    assert (tmp_path / "a.bin").read_bytes() == b"old"
    assert [entry.name for entry in tmp_path.iterdir()] == ["a.bin"]


def test_a_folder_is_made_with_those_it_lies_in(tmp_path):
    for _ in range(2):
        make_folder(tmp_path / "a" / "b")
        assert (tmp_path / "a" / "b").is_dir()
    (tmp_path / "file").write_text("")
    for path in (tmp_path / "file", tmp_path / "file" / "a"):
        with pytest.raises(DataError, match="cannot be written"):
            make_folder(path)


def test_what_a_killed_process_left_goes_and_nothing_else(tmp_path):
    kept = {"a.pt", ".a.pt", ".b.pt.x1.pt", "a.pt.x1.pt", ".a.pt.x1.txt"}
    for name in kept | {".a.pt.x1.pt", ".a.pt._y2z.pt"}:
        (tmp_path / name).write_text("")
    clear_leftovers(tmp_path / "a.pt")
    assert {entry.name for entry in tmp_path.iterdir()} == kept
