"""Places where a command cannot write: what is there stays, and nothing half-written."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest

from movinet_edge.errors import BadInput
from movinet_edge.files import atomic_output, sha256_of
from tests.commands import Refused
from tests.disks import Mount
from tests.videos import encode_video

pytestmark = pytest.mark.usefixtures("no_temporary_files")


def writers(checkpoint: Path, bundle: Path, video: Path) -> dict[str, list[str | Path]]:
    """Commands that write, up to the place where they do."""
    size, form = ["--size", "64"], ["--format", "onnx", "--no-verify"]
    return {
        "import": ["import", checkpoint, "--out"],
        "export": ["export", checkpoint, *size, *form, "--out"],
        "run": ["run", bundle, video, "--json", "--save"],
    }


@pytest.mark.parametrize("command", ["import", "export", "run"])
@pytest.mark.parametrize("parent", ["a file", "/proc", "a full name"])
def test_places_that_cannot_be_written(
    refused: Refused,
    checkpoint: Path,
    small_bundle: Path,
    media: Path,
    tmp_path: Path,
    command: str,
    parent: str,
) -> None:
    (tmp_path / "file").touch()
    places = {"a file": tmp_path / "file" / "x", "/proc": Path("/proc/x"), "a full name": tmp_path}
    name = "y" * 250 if parent == "a full name" else "y"
    target = places[parent] / (f"{name}.mp4" if command == "run" else name)
    said = refused(*writers(checkpoint, small_bundle, media / "v.mp4")[command], target)
    assert "cannot be written" in said
    assert [p.name for p in tmp_path.iterdir()] == ["file"]


@pytest.mark.parametrize("command", ["import", "export", "run"])
def test_directories_of_the_user_are_left_alone(
    refused: Refused,
    checkpoint: Path,
    small_bundle: Path,
    media: Path,
    tmp_path: Path,
    command: str,
) -> None:
    mine = tmp_path / "mine.mp4"
    mine.mkdir()
    (mine / "thesis.txt").write_text("mine")
    refused(*writers(checkpoint, small_bundle, media / "v.mp4")[command], mine)
    assert list(tmp_path.iterdir()) == [mine]
    assert (mine / "thesis.txt").read_text() == "mine"


@pytest.mark.parametrize("command", ["import", "export", "run"])
def test_read_only_places(
    refused: Refused,
    checkpoint: Path,
    small_bundle: Path,
    media: Path,
    mounted: Mount,
    command: str,
) -> None:
    target = mounted("size=1m,ro") / "x.mp4"
    said = refused(*writers(checkpoint, small_bundle, media / "v.mp4")[command], target)
    assert "cannot be written (no permission)" in said


def write_noise(path: Path) -> Path:
    """Frames that no codec makes small."""
    return encode_video(
        path, np.random.default_rng(0).integers(0, 256, (20, 240, 320, 3), np.uint8)
    )


@pytest.mark.parametrize(
    ("command", "name", "size"),
    [
        ("import", "x.safetensors", "64k"),
        ("export", "b", "64k"),  # the golden stream does not fit
        ("export", "b", "1m"),  # nor the weights
        ("export", "b", "20m"),  # nor the model
        ("run", "x.mp4", "8k"),
        ("run", "x.mp4", "64k"),
    ],
)
def test_full_disks(
    refused: Refused,
    checkpoint: Path,
    small_bundle: Path,
    mounted: Mount,
    tmp_path: Path,
    command: str,
    name: str,
    size: str,
) -> None:
    folder = mounted(f"size={size}")
    noise = write_noise(tmp_path / "noise.mp4") if command == "run" else tmp_path
    said = refused(*writers(checkpoint, small_bundle, noise)[command], folder / name)
    assert said.startswith("the disk is full: ")
    assert list(folder.iterdir()) == []


def test_a_disk_too_small_for_the_archive(small_bundle: Path, mounted: Mount) -> None:
    folder = mounted("size=40m")

    def write() -> None:
        with atomic_output(folder / "b.zip") as inner:
            shutil.copytree(small_bundle, inner, dirs_exist_ok=True)

    with pytest.raises(BadInput, match=r"the disk is full: .*b\.zip was not written"):
        write()
    assert list(folder.iterdir()) == []


def test_a_full_disk_keeps_the_old_file(refused: Refused, checkpoint: Path, mounted: Mount) -> None:
    folder = mounted("size=20m")
    shutil.copyfile(checkpoint, folder / "x.safetensors")
    before = sha256_of(checkpoint)
    said = refused("import", checkpoint, "--out", folder / "x.safetensors")
    assert "the disk is full" in said
    assert [p.name for p in folder.iterdir()] == ["x.safetensors"]
    assert sha256_of(folder / "x.safetensors") == before
