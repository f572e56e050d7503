import errno
import os

import pytest

from growprune.errors import DataError
from growprune.files import replacing, write_text


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
