"""Bundles that a command refuses: manifests, changed files, and archives."""

from __future__ import annotations

import hashlib
import stat
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from movinet_edge.files import MANIFEST, pack
from tests.bundles import edited
from tests.commands import Refused, refused_apart

pytestmark = pytest.mark.usefixtures("no_temporary_files")


@pytest.mark.parametrize("command", ["inspect", "run"])
@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (None, "is not a bundle: it has no manifest.json"),
        (b"", "has a damaged manifest (json: Invalid JSON"),
        (b"no json", "has a damaged manifest (json: Invalid JSON"),
        (b"\xff\xff{}", "has a damaged manifest (json: Invalid JSON"),
        (b"[]", "has a damaged manifest"),
        (b"{}", "has a damaged manifest (name: Field required)"),
        (b'{"schema_version": 4, "new": 1}', "was written for schema version 4"),
    ],
    ids=["no file", "empty", "text", "binary", "list", "no fields", "newer"],
)
def test_manifests(
    refused: Refused, media: Path, tmp_path: Path, command: str, content: bytes | None, reason: str
) -> None:
    if content is not None:
        (tmp_path / MANIFEST).write_bytes(content)
    more = [media / "v.mp4"] if command == "run" else []
    assert reason in refused(command, tmp_path, *more)


@pytest.mark.parametrize("path", ["/etc/hostname", "../outside.npz"])
def test_a_manifest_that_points_outside(
    refused: Refused, small_bundle: Path, tmp_path: Path, path: str
) -> None:
    def change(manifest: dict[str, Any]) -> None:
        manifest["golden"]["path"] = path

    said = refused("inspect", edited(small_bundle, tmp_path / "b", change))
    assert "points outside the bundle" in said


def test_a_changed_file(refused: Refused, small_bundle: Path, media: Path, tmp_path: Path) -> None:
    bundle = edited(small_bundle, tmp_path / "b", lambda manifest: None)
    content = bytearray((bundle / "step.onnx").read_bytes())
    content[1000] ^= 1
    (bundle / "step.onnx").write_bytes(content)
    reason = "its hash differs from the manifest's"
    assert reason in refused("inspect", bundle)
    assert reason in refused("run", bundle, media / "v.mp4")
    (bundle / "step.onnx").unlink()
    assert "lacks step.onnx" in refused("inspect", bundle)


@pytest.mark.parametrize(
    ("backend", "name"),
    [
        ("onnxruntime", "step.onnx"),
        ("litert", "step.tflite"),
        ("litert-interpreter", "step.tflite"),
        ("torch", "step.safetensors"),
    ],
)
def test_half_a_model_whose_hash_is_right(
    a0_bundle: Path, media: Path, tmp_path: Path, backend: str, name: str
) -> None:
    content = (a0_bundle / name).read_bytes()
    content = content[: len(content) // 2]

    def change(manifest: dict[str, Any]) -> None:
        for file in manifest["graphs"][0]["files"]:
            if file["path"] == name:
                file["sha256"] = hashlib.sha256(content).hexdigest()

    bundle = edited(a0_bundle, tmp_path / "b", change)
    (bundle / name).write_bytes(content)
    said = refused_apart("run", bundle, media / "v.mp4", "--backend", backend)
    assert name in said


@pytest.fixture(scope="module")
def zipped(small_bundle: Path, tmp_path_factory: pytest.TempPathFactory) -> bytes:
    path = tmp_path_factory.mktemp("zip") / "b.zip"
    pack(small_bundle, path)
    return path.read_bytes()


def overwrite(content: bytes, start: int, length: int) -> bytes:
    return content[:start] + b"\xff" * length + content[start:][length:]


@pytest.mark.parametrize(
    "damage",
    [
        lambda zipped: b"",
        lambda zipped: b"no zip at all" * 10,
        lambda zipped: zipped[: len(zipped) // 2],
        lambda zipped: zipped[-2000:],
        lambda zipped: overwrite(zipped, 40, 20),
        lambda zipped: overwrite(zipped, 2000, 200),
        lambda zipped: overwrite(zipped, len(zipped) // 2, 200),
        lambda zipped: overwrite(zipped, len(zipped) - 100, 40),
    ],
    ids=["empty", "text", "head", "tail", "names", "data", "middle", "directory"],
)
def test_corrupt_zips(
    refused: Refused, tmp_path: Path, zipped: bytes, damage: Callable[[bytes], bytes]
) -> None:
    path = tmp_path / "b.zip"
    path.write_bytes(damage(zipped))
    said = refused("inspect", path)
    assert "is not a readable bundle (no zip, or a corrupt one); copy it again or export it" in said


@pytest.mark.parametrize("member", ["../evil", "a/../../evil", "{root}/evil", "a\\..\\evil"])
def test_zips_that_write_outside(
    refused: Refused, tmp_path: Path, zipped: bytes, member: str
) -> None:
    path = tmp_path / "b.zip"
    path.write_bytes(zipped)
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr(zipfile.ZipInfo(member.format(root=tmp_path)), "evil")
    assert "is not safe to open" in refused("inspect", path)
    assert list(tmp_path.iterdir()) == [path]


def test_zips_with_links(refused: Refused, tmp_path: Path, zipped: bytes) -> None:
    path, outside = tmp_path / "b.zip", tmp_path / "outside"
    outside.mkdir()
    path.write_bytes(zipped)
    with zipfile.ZipFile(path, "a") as archive:
        link = zipfile.ZipInfo("door")
        link.external_attr = (stat.S_IFLNK | 0o777) << 16
        archive.writestr(link, str(outside))
        archive.writestr("door/evil", "evil")
    assert "'door' is a link" in refused("inspect", path)
    assert list(outside.iterdir()) == []


def test_a_zip_whose_file_is_its_folder(refused: Refused, tmp_path: Path, zipped: bytes) -> None:
    path = tmp_path / "b.zip"
    path.write_bytes(zipped)
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr("manifest.json/x", "x")
    assert "cannot be unpacked" in refused("inspect", path)
