"""Whatever goes wrong: exit code 2, one sentence on stderr, nothing left behind.

Cases that might crash or leave something in memory run in a process of their own.
"""

from __future__ import annotations

import gc
import hashlib
import json
import os
import shutil
import stat
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
import torch
from torch import nn

from movinet_edge.checkpoints.native import save_checkpoint
from movinet_edge.cli import console
from movinet_edge.cli.main import main
from movinet_edge.errors import BadInput
from movinet_edge.files import MANIFEST, atomic_output, pack, sha256_of
from movinet_edge.models.registry import MODELS, seeded_model
from movinet_edge.pattern import moving_pattern
from tests.conftest import BundleFactory, seeded_checkpoint

COMMAND = [sys.executable, "-c", "from movinet_edge.cli.main import main; main()"]
# What a command says on stderr while it works, before it fails.
PROGRESS = ("import: ", "export: ", "verify: ", "bench: ", "note: ")


def movinet_edge(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run([*COMMAND, *map(str, arguments)], capture_output=True, text=True)


def the_error(code: object, text: str) -> str:
    """The one sentence of a command that was refused."""
    said = [x for x in text.splitlines() if x and not x.startswith(PROGRESS)]
    assert code == 2, text
    assert len(said) == 1, text
    assert said[0].startswith("error: ")
    return said[0].removeprefix("error: ")


def refused_apart(*arguments: str | Path) -> str:
    """Run a command in a process of its own, which must refuse."""
    result = movinet_edge(*arguments)
    return the_error(result.returncode, result.stderr)


Refused = Callable[..., str]


@pytest.fixture
def refused(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Refused:
    """Run a command in this process, which spares its imports; it must refuse."""

    def run(*arguments: str | Path) -> str:
        for stream in (console.out, console.err):
            stream.cache_clear()
        monkeypatch.setattr(sys, "argv", ["movinet-edge", *map(str, arguments)])
        capfd.readouterr()
        with pytest.raises(SystemExit) as left:
            main()
        code = left.value.code
        del left
        gc.collect()  # the failed command's frames, and with them the bundle that it opened
        return the_error(code, capfd.readouterr().err)

    return run


@pytest.fixture(autouse=True)
def _no_temporary_files(
    tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> Iterator[None]:
    """Commands get a temporary directory of their own, which they must leave empty."""
    folder = tmp_path_factory.mktemp("temporary")
    monkeypatch.setenv("TMPDIR", str(folder))
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    yield
    assert [p.name for p in folder.iterdir()] == []


@pytest.fixture(scope="module")
def media(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """v.mp4 (index at the end), fast.mp4 (index first), song.m4a."""
    folder = tmp_path_factory.mktemp("media")
    for name, options in (("v.mp4", {}), ("fast.mp4", {"movflags": "faststart"})):
        with av.open(str(folder / name), "w", options=options) as container:
            stream: Any = container.add_stream("libx264", rate=10)
            stream.width, stream.height, stream.pix_fmt = 96, 64, "yuv420p"
            for image in moving_pattern(40, 64, 96, seed=7):
                container.mux(stream.encode(av.VideoFrame.from_ndarray(image, format="rgb24")))
            container.mux(stream.encode(None))
    with av.open(str(folder / "song.m4a"), "w") as container:
        audio: Any = container.add_stream("aac", rate=8000)
        sound = av.AudioFrame.from_ndarray(np.zeros((1, 8000), np.float32), "fltp", "mono")
        sound.sample_rate = 8000
        container.mux(audio.encode(sound))
        container.mux(audio.encode(None))
    return folder


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("checkpoint") / "a0.safetensors"
    save_checkpoint(seeded_checkpoint(MODELS["movinet-a0-stream"], 64), path)
    return path


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (["inspect", "nothing"], "there is no bundle at nothing"),
        (["import", "nothing", "--out", "x"], "there is no checkpoint at nothing"),
        (["run", "nothing", "nothing"], "there is no bundle at nothing"),
        (["run", "nothing"], "Missing argument"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_in_a_process_of_its_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: list[str], reason: str
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parents[1]))
    assert reason in refused_apart(*arguments)
    assert list(tmp_path.iterdir()) == []


# Videos ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("kind", "reason"),
    [
        ("missing", "there is no video at"),
        ("empty", "cannot be read as a video"),
        ("cut before its index", "cannot be read as a video"),
        ("cut after its index", "damaged after|cut off"),
        ("text", "is a text file, not a video"),
        ("text named mp4", "cannot be read as a video"),
        ("folder", "there is no video at"),
        ("sound only", "has no video track"),
        ("camera", "there is no camera at /dev/video97"),
    ],
)
def test_videos(
    refused: Refused, small_bundle: Path, media: Path, tmp_path: Path, kind: str, reason: str
) -> None:
    path = tmp_path / ("v.txt" if kind == "text" else "v.mp4")
    if kind == "folder":
        path.mkdir()
    elif kind == "sound only":
        path = media / "song.m4a"
    elif kind.startswith("cut"):
        content = (media / ("v.mp4" if "before" in kind else "fast.mp4")).read_bytes()
        path.write_bytes(content[: len(content) // 2])
    elif kind not in ("missing", "camera"):
        path.write_text("" if kind == "empty" else "a line of text\n" * 500)
    out = tmp_path / "out"
    out.mkdir()
    source = "camera:97" if kind == "camera" else path
    said = refused("run", small_bundle, source, "--json", "--save", out / "saved.mp4")
    assert any(part in said for part in reason.split("|")), said
    assert list(out.iterdir()) == []


# Checkpoints -------------------------------------------------------------------------------


def sequential() -> dict[str, Any]:
    return nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.Linear(8, 4)).state_dict()


def resnet() -> dict[str, Any]:
    return {
        "conv1.weight": torch.zeros(64, 3, 7, 7),
        "bn1.weight": torch.zeros(64),
        "layer1.0.expand.conv.weight": torch.zeros(64, 64, 1, 1),
        "fc.weight": torch.zeros(1000, 512),
    }


@cache
def seeded_weights() -> dict[str, torch.Tensor]:
    return dict(seeded_model(MODELS["movinet-a0-stream"]).state_dict())


def movinet(name: str, cut: Callable[[torch.Tensor], torch.Tensor]) -> dict[str, Any]:
    return seeded_weights() | {name: cut(seeded_weights()[name])}


def atze() -> dict[str, Any]:
    return {"blocks.b0_l0.expand.conv_1.conv3d.weight": torch.zeros(8, 4, 2, 3, 3)}


@pytest.mark.parametrize(
    ("weights", "reason"),
    [
        (sequential, "does not hold a MoViNet: it lacks b0.l0.expand.conv.weight"),
        (resnet, "does not hold a MoViNet: it lacks b0.l0.expand.conv.weight"),
        (atze, "does not hold a MoViNet: it lacks"),
        (lambda: {"state_dict": {"model": {"a": torch.zeros(1)}}}, "does not hold a MoViNet"),
        (lambda: {0: torch.zeros(1), 1: torch.zeros(1)}, "holds no weights"),
        (lambda: [torch.zeros(1)], "holds no weights"),
        (dict, "holds no weights"),
        (
            lambda: movinet("b2.l1.project.conv.weight", lambda w: w[:-3]),
            "b2.l1 has 112 -> 53 channels, kernel 3x3, a0 would have 112 -> 56",
        ),
        (
            lambda: movinet("b2.l1.project.norm.bias", lambda w: w[:-3]),
            "wrong shape: b2.l1.project.norm.bias [53] instead of [56]",
        ),
        (
            lambda: movinet("b1.l0.spatial.conv.weight", lambda w: w[:, 0, 0]),
            "wrong shape: b1.l0.spatial.conv.weight [80, 3, 3] instead of [80, 1, 1, 3, 3]",
        ),
        (
            lambda: movinet("b1.l0.spatial.conv.weight", lambda w: w.flatten()),
            "does not hold a MoViNet",
        ),
        (
            lambda: movinet("b3.l0.expand.norm.weight", lambda w: w / 0),
            "NaN or infinite weights (b3.l0.expand.norm.weight)",
        ),
    ],
    ids=lambda value: "" if callable(value) else str(value)[:40],
)
def test_checkpoints_of_other_models(
    refused: Refused, tmp_path: Path, weights: Callable[[], object], reason: str
) -> None:
    path, out = tmp_path / "x.pth", tmp_path / "out"
    torch.save(weights(), path)
    said = refused("import", path, "--out", out / "y.safetensors")
    assert reason in said
    assert not out.exists()


class Code:
    """Unpickling it makes a file."""

    def __init__(self, marker: Path):
        self.marker = str(marker)

    def __reduce__(self) -> tuple[Callable[[str], object], tuple[str]]:
        return os.mkdir, (self.marker,)


@pytest.mark.parametrize("zipped", [True, False], ids=["zip", "legacy"])
@pytest.mark.parametrize("command", ["import", "export"])
def test_code_in_a_checkpoint_is_not_run(tmp_path: Path, command: str, zipped: bool) -> None:
    path, marker = tmp_path / "x.pth", tmp_path / "marker"
    content = {"state_dict": {"a": torch.zeros(1)}, "extra": Code(marker)}
    torch.save(content, path, _use_new_zipfile_serialization=zipped)
    said = refused_apart(command, path, "--out", tmp_path / "y.safetensors")
    assert "holds Python objects or code" in said
    assert list(tmp_path.iterdir()) == [path]  # no marker
    torch.load(path, weights_only=False)
    assert marker.is_dir()  # it would have worked


@pytest.mark.parametrize("name", ["x.pth", "x.safetensors", "x.tflite", "x.bin"])
@pytest.mark.parametrize("kind", ["missing", "empty", "half", "text", "noise", "folder"])
def test_damaged_checkpoints(
    refused: Refused, checkpoint: Path, a0_bundle: Path, tmp_path: Path, name: str, kind: str
) -> None:
    path = tmp_path / name
    if kind == "half":
        sources = {"x.safetensors": checkpoint, "x.tflite": a0_bundle / "step.tflite"}
        if name in sources:
            content = sources[name].read_bytes()
        else:
            torch.save(sequential(), path)
            content = path.read_bytes()
        path.write_bytes(content[: len(content) // 2])
    elif kind == "folder":
        path.mkdir()
    elif kind != "missing":
        noise = np.random.default_rng(0).bytes(3000)
        path.write_bytes({"empty": b"", "text": b"some text\n" * 200, "noise": noise}[kind])
    said = refused("import", path, "--out", tmp_path / "y.safetensors")
    assert str(path) in said
    assert [p for p in tmp_path.iterdir() if p != path] == []


def test_a_bundle_is_no_checkpoint(refused: Refused, small_bundle: Path, tmp_path: Path) -> None:
    pack(small_bundle, tmp_path / "b.zip")
    said = refused("import", tmp_path / "b.zip", "--out", tmp_path / "y.safetensors")
    assert "is a bundle, not a checkpoint" in said


def test_neither_file_nor_model(refused: Refused, tmp_path: Path) -> None:
    said = refused("export", "movinet-a9", "--out", tmp_path / "b")
    assert "neither a file nor a model; movinet-edge models lists" in said
    said = refused("export", tmp_path / "no.pth", "--out", tmp_path / "b")
    assert "there is no checkpoint at" in said
    assert list(tmp_path.iterdir()) == []


# Labels ------------------------------------------------------------------------------------


@pytest.mark.parametrize("command", ["import", "export"])
@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("a\nb\nc\n", "3 labels for 600 classes"),
        ("a\n" * 601, "601 labels for 600 classes"),
        ("", "has empty lines"),
        ("a\n\n" + "b\n" * 598, "has empty lines"),
        (b"\xff\xfe\x00label", "is not a text file of labels"),
        (None, "there is no label file at"),
    ],
)
def test_labels(
    refused: Refused,
    checkpoint: Path,
    tmp_path: Path,
    command: str,
    text: str | bytes | None,
    reason: str,
) -> None:
    labels, out = tmp_path / "labels.txt", tmp_path / "out"
    if text is not None:
        labels.write_bytes(text if isinstance(text, bytes) else text.encode())
    said = refused(command, checkpoint, "--labels", labels, "--out", out / "y.safetensors")
    assert reason in said
    assert not out.exists()


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"only one\n", "has 1 labels for 600 classes"),
        (b"caf\xe9\n" * 600, "is not UTF-8 text"),
    ],
)
def test_labels_in_a_bundle(
    refused: Refused, small_bundle: Path, tmp_path: Path, content: bytes, reason: str
) -> None:
    def change(manifest: dict[str, Any]) -> None:
        sha256 = hashlib.sha256(content).hexdigest()
        manifest["labels"] = {"path": "labels.txt", "sha256": sha256}

    bundle = tampered(small_bundle, tmp_path, change)
    (bundle / "labels.txt").write_bytes(content)
    assert reason in refused("inspect", bundle)


# Bundles -----------------------------------------------------------------------------------


def tampered(source: Path, tmp_path: Path, change: Callable[[dict[str, Any]], None]) -> Path:
    target = tmp_path / "b"
    shutil.copytree(source, target)
    manifest = json.loads((target / MANIFEST).read_text())
    change(manifest)
    (target / MANIFEST).write_text(json.dumps(manifest))
    return target


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
        (b'{"schema_version": 2, "new": 1}', "was written for schema version 2"),
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

    said = refused("inspect", tampered(small_bundle, tmp_path, change))
    assert "points outside the bundle" in said


def test_a_changed_file(refused: Refused, small_bundle: Path, media: Path, tmp_path: Path) -> None:
    bundle = tampered(small_bundle, tmp_path, lambda manifest: None)
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

    bundle = tampered(a0_bundle, tmp_path, change)
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


# Engines and options -----------------------------------------------------------------------


def test_backends(refused: Refused, a0_bundle: Path, small_bundle: Path, media: Path) -> None:
    video = media / "v.mp4"
    said = refused("run", small_bundle, video, "--backend", "nope")
    assert said.startswith("unknown backend 'nope'; choose one of litert, ")
    said = refused("run", small_bundle, video, "--backend", "litert")
    assert "no fp32 tflite file" in said
    # The one engine that is never installed beside the others; test_packaging has the rest.
    said = refused("run", a0_bundle, video, "--backend", "tflite-runtime")
    assert said.endswith("not installed; pip install 'movinet-edge[tflite-runtime]'")


@pytest.mark.parametrize(
    "arguments",
    [
        ["run"],
        ["nonsense"],
        ["run", "b", "v.mp4", "--threads", "0"],
        ["run", "b", "v.mp4", "--nonsense"],
        ["run", "b", "v.mp4", "--threads", "many"],
        ["export", "movinet-a0-stream"],
        ["export", "movinet-a0-stream", "--out", "b", "--format", "coreml"],
        ["import", "x.pth", "--out", "y", "--set", "gate"],
        ["inspect", "no-bundle-here"],
        ["inspect", "no[/bold]here"],
    ],
    ids=" ".join,
)
def test_wrong_use(
    refused: Refused, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: list[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert refused(*arguments)
    assert list(tmp_path.iterdir()) == []


def test_no_arguments_print_the_help() -> None:
    result = movinet_edge()
    assert result.returncode == 2
    assert "Usage" in result.stdout + result.stderr
    assert "error" not in result.stderr


# Outputs -----------------------------------------------------------------------------------


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


@pytest.fixture
def mounted(tmp_path: Path) -> Iterator[Callable[[str], Path]]:
    """``mounted("size=64k")``: a file system with these options, for as long as the test runs."""
    folder = tmp_path / "mounted"
    folder.mkdir()
    if os.geteuid() != 0 or shutil.which("mount") is None:
        pytest.skip("mounting needs root")

    def mount(options: str) -> Path:
        command = ["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(folder)]
        result = subprocess.run(command, capture_output=True, text=True)
        if result.returncode:
            pytest.skip(f"mounting is not allowed here: {result.stderr.strip()}")
        return folder

    yield mount
    if os.path.ismount(folder):  # fails where a command left a file open
        subprocess.run(["umount", str(folder)], check=True)


@pytest.mark.parametrize("command", ["import", "export", "run"])
def test_read_only_places(
    refused: Refused,
    checkpoint: Path,
    small_bundle: Path,
    media: Path,
    mounted: Callable[[str], Path],
    command: str,
) -> None:
    target = mounted("size=1m,ro") / "x.mp4"
    said = refused(*writers(checkpoint, small_bundle, media / "v.mp4")[command], target)
    assert "cannot be written (no permission)" in said


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
    mounted: Callable[[str], Path],
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


def test_a_disk_too_small_for_the_archive(
    small_bundle: Path, mounted: Callable[[str], Path]
) -> None:
    folder = mounted("size=40m")

    def write() -> None:
        with atomic_output(folder / "b.zip") as inner:
            shutil.copytree(small_bundle, inner, dirs_exist_ok=True)

    with pytest.raises(BadInput, match=r"the disk is full: .*b\.zip was not written"):
        write()
    assert list(folder.iterdir()) == []


def write_noise(path: Path) -> Path:
    """Frames that no codec makes small."""
    rng = np.random.default_rng(0)
    with av.open(str(path), "w") as container:
        stream: Any = container.add_stream("libx264", rate=10)
        stream.width, stream.height, stream.pix_fmt = 320, 240, "yuv420p"
        for _ in range(20):
            image = rng.integers(0, 256, (240, 320, 3), np.uint8)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(image, format="rgb24")))
        container.mux(stream.encode(None))
    return path


def test_a_full_disk_keeps_the_old_file(
    refused: Refused, checkpoint: Path, mounted: Callable[[str], Path]
) -> None:
    folder = mounted("size=20m")
    shutil.copyfile(checkpoint, folder / "x.safetensors")
    before = sha256_of(checkpoint)
    said = refused("import", checkpoint, "--out", folder / "x.safetensors")
    assert "the disk is full" in said
    assert [p.name for p in folder.iterdir()] == ["x.safetensors"]
    assert sha256_of(folder / "x.safetensors") == before


# What must not fail ------------------------------------------------------------------------


@pytest.mark.parametrize(
    "arguments", [["run", "{b}", "{v}", "--json"], ["inspect", "{b}"], ["inspect", "{b}", "--json"]]
)
def test_a_reader_that_goes_away(small_bundle: Path, media: Path, arguments: list[str]) -> None:
    words = [a.format(b=small_bundle, v=media / "v.mp4") for a in arguments]
    process = subprocess.Popen(
        [*COMMAND, *words], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, bufsize=1
    )
    assert process.stdout is not None
    assert process.stderr is not None
    if "--json" in arguments and arguments[0] == "run":
        assert json.loads(process.stdout.readline())["frame"] == 0
    process.stdout.close()
    assert process.stderr.read() == ""
    assert process.wait(60) == 0


def test_labels_with_brackets_are_printed(
    bundles: BundleFactory, small_bundle: Path, media: Path, tmp_path: Path
) -> None:
    """[something] is no markup, and :smile: no face."""
    text = "".join(f"Putting [something] on [/b] :smile: {i}\n" for i in range(600))

    def change(manifest: dict[str, Any]) -> None:
        sha256 = hashlib.sha256(text.encode()).hexdigest()
        manifest["labels"] = {"path": "labels.txt", "sha256": sha256}

    bundle = tampered(small_bundle, tmp_path, change)
    (bundle / "labels.txt").write_text(text)
    video = tmp_path / "clip [red].mp4"
    shutil.copy(media / "v.mp4", video)
    save = tmp_path / "saved [blue].mp4"
    result = movinet_edge("run", bundle, video, "--top-k", "1", "--save", save)
    assert result.returncode == 0, result.stderr
    assert result.stderr == ""
    assert "Putting [something] on [/b] :smile: " in result.stdout
    assert "clip [red].mp4" in result.stdout.replace("\n", "")
    with av.open(str(save)) as container:
        assert sum(1 for _ in container.decode(video=0)) == 20
