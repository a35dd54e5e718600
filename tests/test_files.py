"""Single files: whole or not at all."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import numpy as np
import pytest

from movinet_edge.errors import BadInput
from movinet_edge.files import NewFile, atomic_file, write_errors, write_npz


def test_a_file_takes_the_place_of_the_old_one(tmp_path: Path) -> None:
    target = tmp_path / "folder" / "x.txt"
    for text in ("one", "two"):
        with atomic_file(target, parents=True) as work:
            assert work.suffix == ".txt"
            work.write_text(text)
        assert target.read_text() == text
    assert list(target.parent.iterdir()) == [target]
    assert target.stat().st_mode & 0o777 == 0o644


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt, OSError])
def test_a_failed_block_leaves_the_old_file(tmp_path: Path, error: type[BaseException]) -> None:
    target = tmp_path / "x.txt"
    target.write_text("old")

    def write() -> None:
        with atomic_file(target) as work:
            work.write_text("half")
            raise error

    with pytest.raises(error):
        write()
    assert target.read_text() == "old"
    assert list(tmp_path.iterdir()) == [target]


def test_an_empty_file_is_not_kept(tmp_path: Path) -> None:
    with atomic_file(tmp_path / "x.txt"):
        pass
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("place", ["nowhere/x", "file/x", "y" * 300])
def test_places_that_cannot_be_written(tmp_path: Path, place: str) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(BadInput, match="cannot be written"), atomic_file(tmp_path / place):
        pytest.fail("must not begin")
    with pytest.raises(BadInput, match="cannot be written"):
        NewFile(tmp_path / place)
    assert [p.name for p in tmp_path.iterdir()] == ["file"]


def test_a_folder_is_not_replaced(tmp_path: Path) -> None:
    target = tmp_path / "x"
    target.mkdir()
    with pytest.raises(BadInput, match="cannot be written"), atomic_file(target) as work:
        work.write_text("x")
    assert list(tmp_path.iterdir()) == [target]


def test_a_full_disk_is_named() -> None:
    with pytest.raises(BadInput, match="the disk is full: x was not"), write_errors(Path("x")):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def test_the_same_arrays_give_the_same_bytes(tmp_path: Path) -> None:
    arrays: dict[str, np.ndarray] = {"a": np.arange(6).reshape(2, 3), "b": np.zeros(4, np.float32)}
    for name in ("one", "two"):
        write_npz(tmp_path / name, **arrays)
    assert (tmp_path / "one").read_bytes() == (tmp_path / "two").read_bytes()
    with np.load(tmp_path / "one") as stored:
        assert all(np.array_equal(stored[name], array) for name, array in arrays.items())
