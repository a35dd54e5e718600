"""Bundles: written at once or not at all, read only when whole and safe."""

from __future__ import annotations

import errno
import json
import os
import shutil
import stat
import zipfile
from pathlib import Path

import numpy as np
import pytest

from movinet_edge import bundle as bundle_module
from movinet_edge.bundle import Bundle, Manifest
from movinet_edge.checkpoints.native import load_checkpoint, save_checkpoint
from movinet_edge.errors import BadInput
from movinet_edge.export.exporter import ExportOptions, export
from movinet_edge.files import MANIFEST, atomic_output, pack, sha256_of
from movinet_edge.models.registry import MODELS
from movinet_edge.runtime import Stream
from tests.conftest import seeded_checkpoint

SCHEMA = Path(__file__).parents[1] / "docs" / "manifest.schema.json"


def schema_text() -> str:
    """What belongs into docs/manifest.schema.json. To write it again::

    python -m tests.test_bundle
    """
    return json.dumps(Manifest.model_json_schema(), indent=1) + "\n"


def files_of(folder: Path) -> dict[str, str]:
    return {p.name: sha256_of(p) for p in folder.iterdir()}


def test_the_published_schema_is_the_manifests() -> None:
    assert SCHEMA.read_text("utf-8") == schema_text(), "run: python -m tests.test_bundle"


def test_directory_and_zip_are_the_same_bundle(small_bundle: Path, tmp_path: Path) -> None:
    archive = tmp_path / "b.zip"
    pack(small_bundle, archive)
    one, two = Bundle(small_bundle), Bundle(archive)
    one.check_all()
    two.check_all()
    assert one.manifest == two.manifest
    assert one.labels == two.labels == [f"class {i}" for i in range(600)]
    assert files_of(small_bundle) == files_of(two.root)
    frame = np.random.default_rng(0).integers(0, 256, (48, 80, 3), np.uint8)
    answers = []
    for opened in (one, two):
        with Stream(opened, "onnxruntime") as stream:
            prediction = stream.step(frame)
            assert prediction is not None
            answers.append(prediction.logits)
    assert np.array_equal(answers[0], answers[1])


def test_an_unpacked_zip_is_removed_with_its_bundle(small_bundle: Path, tmp_path: Path) -> None:
    archive = tmp_path / "b.zip"
    pack(small_bundle, archive)
    opened = Bundle(archive)
    root = opened.root
    assert root.is_dir()
    del opened
    assert not root.exists()


def test_manifest_survives_json(small_bundle: Path) -> None:
    manifest = Bundle(small_bundle).manifest
    assert Manifest.model_validate_json(manifest.model_dump_json(exclude_none=True)) == manifest
    assert manifest.graph("step").name == "step"


def test_export_replaces_a_bundle(tmp_path: Path) -> None:
    checkpoint = seeded_checkpoint(MODELS["movinet-a0-stream"], 64)
    options = ExportOptions(formats=(), verify=False)
    folder = tmp_path / "b"
    export(checkpoint, folder, options)
    assert Bundle(folder).manifest.labels is None
    (folder / "step.onnx").write_text("left from an older export")
    checkpoint.labels = [f"label {i}" for i in range(600)]
    export(checkpoint, folder, options)
    Bundle(folder).check_all()
    assert Bundle(folder).labels == checkpoint.labels
    assert not (folder / "step.onnx").exists()
    assert list(tmp_path.iterdir()) == [folder]


def test_the_same_checkpoint_gives_the_same_bytes(tmp_path: Path) -> None:
    checkpoint = seeded_checkpoint(MODELS["movinet-a0-stream"])
    checkpoint.labels = [f"label {i} \u00e9\t" for i in range(600)]
    paths = [tmp_path / f"{i}.safetensors" for i in range(4)]
    for path in paths:
        save_checkpoint(checkpoint, path)
    assert len({sha256_of(path) for path in paths}) == 1
    assert load_checkpoint(paths[0]).labels == checkpoint.labels


def test_a_zip_replaces_a_zip(small_bundle: Path, tmp_path: Path) -> None:
    archive = tmp_path / "b.zip"
    pack(small_bundle, archive)
    with atomic_output(archive) as folder:
        shutil.copyfile(small_bundle / MANIFEST, folder / MANIFEST)
    assert zipfile.ZipFile(archive).namelist() == [MANIFEST]
    assert list(tmp_path.iterdir()) == [archive]


def test_pack_is_deterministic(small_bundle: Path, tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    copy.mkdir()
    for path in sorted(small_bundle.iterdir(), reverse=True):  # another order, time and mode
        shutil.copyfile(path, copy / path.name)
        os.utime(copy / path.name, (1e9, 1e9))
        (copy / path.name).chmod(0o600)
    pack(small_bundle, tmp_path / "one.zip")
    pack(copy, tmp_path / "two.zip")
    assert (tmp_path / "one.zip").read_bytes() == (tmp_path / "two.zip").read_bytes()


@pytest.mark.parametrize("name", ["b", "b.zip"])
@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt, BadInput])
def test_a_failed_write_leaves_nothing(
    tmp_path: Path, name: str, error: type[BaseException]
) -> None:
    def write() -> None:
        with atomic_output(tmp_path / name) as folder:
            (folder / "half").write_text("half")
            raise error("stop")

    with pytest.raises(error):
        write()
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("name", ["b", "b.zip"])
def test_a_failed_write_keeps_what_was_there(small_bundle: Path, tmp_path: Path, name: str) -> None:
    target = tmp_path / name
    shutil.copytree(small_bundle, tmp_path / "b")
    if name == "b.zip":
        pack(tmp_path / "b", target)
        shutil.rmtree(tmp_path / "b")

    def write() -> None:
        with atomic_output(target) as folder:
            (folder / "half").write_text("half")
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with pytest.raises(BadInput, match="the disk is full"):
        write()
    Bundle(target).check_all()
    assert [p.name for p in tmp_path.iterdir()] == [name]


def test_a_failed_exchange_puts_the_old_bundle_back(small_bundle: Path, tmp_path: Path) -> None:
    target = tmp_path / "b"
    shutil.copytree(small_bundle, target)

    def write() -> None:
        with atomic_output(target) as folder:
            folder.rmdir()  # nothing to move into place

    with pytest.raises(BadInput, match="cannot be written"):
        write()
    Bundle(target).check_all()
    assert [p.name for p in tmp_path.iterdir()] == ["b"]


def test_the_output_has_the_usual_permissions(tmp_path: Path) -> None:
    (tmp_path / "usual").mkdir()
    for name in ("b", "b.zip"):
        with atomic_output(tmp_path / name) as folder:
            (folder / MANIFEST).write_text("{}")
    usual = stat.S_IMODE((tmp_path / "usual").stat().st_mode)
    assert stat.S_IMODE((tmp_path / "b").stat().st_mode) == usual
    assert stat.S_IMODE((tmp_path / "b.zip").stat().st_mode) == usual & 0o666


def test_an_empty_directory_is_taken(tmp_path: Path) -> None:
    (tmp_path / "b").mkdir()
    with atomic_output(tmp_path / "b") as folder:
        (folder / "x").touch()
    assert [p.name for p in (tmp_path / "b").iterdir()] == ["x"]


def foreign(tmp_path: Path, kind: str) -> Path:
    """Something of the user's at the place of the output."""
    path = tmp_path / ("mine.zip" if "zip" in kind else "mine")
    if kind == "file":
        path.write_text("mine")
    elif kind == "directory":
        path.mkdir()
        (path / "thesis.txt").write_text("mine")
    elif kind == "web app":  # their manifest has the same name
        path.mkdir()
        (path / MANIFEST).write_text('{"name": "app", "icons": []}')
    elif kind == "directory named zip":
        path.mkdir()
    elif kind == "photos in a zip":
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr("photo.jpg", b"mine")
    else:
        path.write_text("no zip at all")
    return path


@pytest.mark.parametrize(
    "kind",
    ["file", "directory", "web app", "directory named zip", "photos in a zip", "text named zip"],
)
def test_what_is_no_bundle_is_not_replaced(tmp_path: Path, kind: str) -> None:
    path = foreign(tmp_path, kind)
    before = path.read_bytes() if path.is_file() else files_of(path)
    with pytest.raises(BadInput, match="choose another"), atomic_output(path):
        pytest.fail("must not begin")
    assert (path.read_bytes() if path.is_file() else files_of(path)) == before
    assert list(tmp_path.iterdir()) == [path]


def tampered(small_bundle: Path, tmp_path: Path, **changes: object) -> Path:
    """The manifest of a bundle with other values; nothing else."""
    folder = tmp_path / "b"
    folder.mkdir()
    manifest = json.loads((small_bundle / MANIFEST).read_text())
    (folder / MANIFEST).write_text(json.dumps(manifest | changes))
    return folder


@pytest.mark.parametrize(
    ("plan", "reason"),
    [
        ({"steps": []}, "no graph of the plan"),
        ({"steps": [{"graph": "other"}]}, "that is not there"),
        ({"steps": [{"graph": "step"}], "answer": "nothing"}, "no graph of the plan"),
        ({"steps": [{"graph": "step", "every": 2, "offset": 2}]}, "would never run"),
        ({"steps": [{"graph": "step", "every": 0}]}, "greater than or equal to 1"),
    ],
)
def test_a_plan_that_cannot_answer_is_refused(
    small_bundle: Path, tmp_path: Path, plan: dict[str, object], reason: str
) -> None:
    with pytest.raises(BadInput, match=reason):
        Bundle(tampered(small_bundle, tmp_path, plan=plan))


def test_frames_that_do_not_fit_the_contract_are_refused(
    small_bundle: Path, tmp_path: Path
) -> None:
    manifest = json.loads((small_bundle / MANIFEST).read_text())
    contract = manifest["preprocessing"] | {"height": 65}
    with pytest.raises(BadInput, match=r"takes frames of \[1, 64, 64, 3\]"):
        Bundle(tampered(small_bundle, tmp_path, preprocessing=contract))


@pytest.mark.parametrize("path", ["../x", "/etc/passwd", "a/../../x", "a\\b", ""])
def test_paths_that_leave_the_bundle_are_refused(
    small_bundle: Path, tmp_path: Path, path: str
) -> None:
    golden = {"path": path, "sha256": "0" * 64}
    with pytest.raises(BadInput, match="points outside the bundle"):
        Bundle(tampered(small_bundle, tmp_path, golden=golden))


def test_a_link_that_leaves_the_bundle_is_refused(small_bundle: Path, tmp_path: Path) -> None:
    folder, outside = tmp_path / "b", tmp_path / "outside.npz"
    shutil.copytree(small_bundle, folder)
    (folder / "golden.npz").rename(outside)
    (folder / "golden.npz").symlink_to(outside)
    opened = Bundle(folder)
    with pytest.raises(BadInput, match=r"leads out of it"):
        opened.file(opened.manifest.golden)


def test_hash_is_checked_when_a_file_is_used(small_bundle: Path, tmp_path: Path) -> None:
    folder = tmp_path / "b"
    shutil.copytree(small_bundle, folder)
    content = bytearray((folder / "step.onnx").read_bytes())
    content[len(content) // 2] ^= 1
    (folder / "step.onnx").write_bytes(content)
    opened = Bundle(folder)
    opened.file(opened.manifest.golden)
    with pytest.raises(BadInput, match=r"step\.onnx .* was changed or damaged"):
        Stream(opened, "onnxruntime")
    Stream(opened, "torch").close()


def test_schema_version_is_the_lowest_that_will_do(small_bundle: Path) -> None:
    """Older readers open all but what they could not run."""
    assert Bundle(small_bundle).manifest.schema_version == 1 < bundle_module.SCHEMA_VERSION


if __name__ == "__main__":
    SCHEMA.parent.mkdir(exist_ok=True)
    SCHEMA.write_text(schema_text(), "utf-8")
