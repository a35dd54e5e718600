"""Files, bundle folders and archives: written whole or not at all, unpacked only when safe."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import io
import json
import os
import shutil
import stat
import struct
import tempfile
import zipfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath

import numpy as np

from movinet_edge.errors import BadInput

MANIFEST = "manifest.json"

_ZIP_TIME = (1980, 1, 1, 0, 0, 0)  # the time of day would make the same content other bytes
_CORRUPT = "{path} is not a readable bundle (no zip, or a corrupt one); copy it again or export it"
# What the zipfile module raises on damaged archives.
_CORRUPT_ZIP = (
    zipfile.BadZipFile,
    zlib.error,
    struct.error,
    EOFError,
    NotImplementedError,
    RuntimeError,
    ValueError,
)


def sha256_of(path: Path) -> str:
    """The hash of a file, in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def describe_os_error(error: OSError, target: Path) -> str:
    """One sentence for a failed write."""
    if error.errno == errno.ENOSPC:
        return f"the disk is full: {target} was not written; free some space and try again"
    if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
        return f"{target} cannot be written (no permission); choose another place"
    return f"{target} cannot be written ({error.strerror or error}); choose another place"


@contextmanager
def write_errors(target: Path) -> Iterator[None]:
    """An `OSError` of the block becomes one sentence about `target`.

    Raises:
        BadInput: there was one.
    """
    try:
        yield
    except OSError as error:
        raise BadInput(describe_os_error(error, target)) from error


class NewFile:
    """A file in the making: `work`, beside `target`, is written and then kept or discarded.

    Raises:
        BadInput: the place cannot be written.
    """

    def __init__(self, target: Path, parents: bool = False):
        self.target = target
        with write_errors(target):
            if parents:
                target.parent.mkdir(parents=True, exist_ok=True)
            handle, name = tempfile.mkstemp(target.suffix, f".{target.stem}.", target.parent)
            os.close(handle)
        self.work = Path(name)

    def keep(self) -> None:
        """Put it in the place of `target`, in one step.

        Raises:
            BadInput: that is not possible.
        """
        with write_errors(self.target):
            self.work.chmod(0o644)
            self.work.replace(self.target)

    def discard(self) -> None:
        """Remove it, unless it was kept."""
        with contextlib.suppress(OSError):
            self.work.unlink(missing_ok=True)


@contextmanager
def atomic_file(target: Path, parents: bool = False) -> Iterator[Path]:
    """A file to write that becomes `target` when the block succeeds, unless it is still empty.

    Nothing is left behind when the block fails. An `OSError` of the block passes as it is, for a
    block may do more than write: wrap the writing in `write_errors`.

    Args:
        parents: make the folders on the way.

    Raises:
        BadInput: the place cannot be written.
    """
    new = NewFile(target, parents)
    try:
        yield new.work
        if new.work.stat().st_size:
            new.keep()
    finally:
        new.discard()


@contextmanager
def text_file(target: Path) -> Iterator[Callable[[str], None]]:
    """Yields what writes the text of `target`; the place is tried before the work of minutes.

    `target` is replaced in one step, or stays as it was.

    Raises:
        BadInput: the place cannot be written.
    """
    if target.is_dir():
        raise BadInput(f"{target} is a directory; name a file")
    with atomic_file(target) as work:

        def write(text: str) -> None:
            with write_errors(target):
                work.write_text(text, encoding="utf-8")

        yield write


def write_text(target: Path, text: str) -> None:
    """Write a file and the folders on the way, whole or not at all.

    Raises:
        BadInput: the place cannot be written.
    """
    with atomic_file(target, parents=True) as work, write_errors(target):
        work.write_text(text, encoding="utf-8")


@contextmanager
def new_folder(target: Path) -> Iterator[Path]:
    """A temporary folder beside `target` that becomes `target` when the block succeeds.

    Raises:
        BadInput: there is something at `target`, or the place cannot be written.
    """
    if target.exists():
        raise BadInput(f"{target} exists already; choose another --out or remove it")
    work: Path | None = None
    try:
        with write_errors(target):
            target.parent.mkdir(parents=True, exist_ok=True)
            work = Path(tempfile.mkdtemp(prefix=f".{target.name}.", dir=target.parent))
            yield work
            work.chmod(0o755)
            work.rename(target)
    finally:
        if work is not None:
            shutil.rmtree(work, ignore_errors=True)


@contextmanager
def atomic_output(target: Path) -> Iterator[Path]:
    """A temporary directory beside `target` that becomes `target` when the block succeeds.

    An existing bundle at `target` is replaced; anything else there is refused. `target` may end
    in ``.zip``. Nothing is left behind when the block fails.

    Raises:
        BadInput: the place cannot be written, is taken, or the disk is full.
    """
    work: Path | None = None
    try:
        with write_errors(target):
            _refuse_foreign(target)
            target.parent.mkdir(parents=True, exist_ok=True)
            work = Path(tempfile.mkdtemp(prefix=f".{target.name}.", dir=target.parent))
            inner = work / "bundle"
            inner.mkdir()
            yield inner
            if target.suffix == ".zip":
                packed = work / "bundle.zip"
                pack(inner, packed)
                packed.replace(target)
            else:
                _exchange(inner, target, work / "old")
    finally:
        if work is not None:
            shutil.rmtree(work, ignore_errors=True)


def _exchange(new: Path, target: Path, old: Path) -> None:
    """Put `new` in the place of `target`; what was there goes to `old`, or back on failure."""
    if not target.exists():
        new.rename(target)
        return
    target.rename(old)
    try:
        new.rename(target)
    except OSError:
        old.rename(target)
        raise


def _refuse_foreign(target: Path) -> None:
    if target.suffix == ".zip" and target.is_dir():
        raise BadInput(f"{target} is a directory; choose another --out")
    empty = target.is_dir() and not any(target.iterdir())
    if target.exists() and not empty and not _looks_like_a_bundle(target):
        raise BadInput(f"{target} exists and is not a bundle; choose another --out")


def _looks_like_a_bundle(path: Path) -> bool:
    """Whether `path` has a manifest of ours, of whatever version; other programs have others."""
    try:
        if path.is_dir():
            text = (path / MANIFEST).read_bytes()
        else:
            with zipfile.ZipFile(path) as archive:
                text = archive.read(MANIFEST)
        manifest = json.loads(text)
    except (OSError, KeyError, *_CORRUPT_ZIP):
        return False
    return isinstance(manifest, dict) and {"graphs", "plan"} <= set(manifest)


def write_npz(path: Path, **arrays: np.ndarray) -> None:
    """``np.savez_compressed`` without the time of day: the same arrays give the same bytes."""
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, array in arrays.items():
            buffer = io.BytesIO()
            np.lib.format.write_array(buffer, array)
            info = zipfile.ZipInfo(f"{name}.npy", _ZIP_TIME)
            info.compress_type = zipfile.ZIP_DEFLATED
            archive.writestr(info, buffer.getvalue())


def pack(folder: Path, archive: Path) -> None:
    """Zip a bundle directory; the same files give the same bytes."""
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED) as out:
        for path in sorted(folder.rglob("*")):
            if path.is_file():
                info = zipfile.ZipInfo(path.relative_to(folder).as_posix(), _ZIP_TIME)
                info.compress_type = zipfile.ZIP_DEFLATED
                info.external_attr = 0o644 << 16
                out.writestr(info, path.read_bytes())


def unpack(path: Path, target: Path) -> None:
    """Unzip a bundle into the directory `target`.

    Raises:
        BadInput: no zip or a corrupt one, members that lead out of `target`, or a full disk.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            for member in archive.infolist():
                try:
                    inside(member.filename)
                except ValueError:
                    raise BadInput(
                        f"{path} is not safe to open: {member.filename!r} points outside it"
                    ) from None
                if stat.S_ISLNK(member.external_attr >> 16):
                    raise BadInput(f"{path} is not safe to open: {member.filename!r} is a link")
            archive.extractall(target)
    except OSError as error:
        if error.errno == errno.EINVAL:  # an offset before the file's beginning
            raise BadInput(_CORRUPT.format(path=path)) from None
        raise BadInput(
            f"{path} cannot be unpacked into {target.parent} ({error.strerror or error})"
        ) from error
    except _CORRUPT_ZIP:
        raise BadInput(_CORRUPT.format(path=path)) from None


def inside(path: str) -> str:
    """`path`, if it stays within the folder that it is relative to.

    Raises:
        ValueError: it leads out.
    """
    pure = PurePosixPath(path)
    if pure.is_absolute() or ".." in pure.parts or "\\" in path or not path:
        raise ValueError(f"{path!r} points outside the bundle")
    return path
