"""Whatever goes wrong: exit code 2, one sentence on stderr, nothing left behind.

Here videos, labels, engines and options. Cases that might crash or leave something in memory run
in a process of their own.
"""

from __future__ import annotations

import hashlib
import json
import shutil
import subprocess
from pathlib import Path
from typing import Any

import av
import pytest

from tests.bundles import edited
from tests.commands import COMMAND, Refused, movinet_edge, refused_apart
from tests.conftest import BundleFactory

pytestmark = pytest.mark.usefixtures("no_temporary_files")


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

    bundle = edited(small_bundle, tmp_path / "b", change)
    (bundle / "labels.txt").write_bytes(content)
    assert reason in refused("inspect", bundle)


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

    bundle = edited(small_bundle, tmp_path / "b", change)
    (bundle / "labels.txt").write_text(text)
    video = tmp_path / "clip [red].mp4"
    shutil.copy(media / "v.mp4", video)
    save = tmp_path / "saved [blue].mp4"
    result = movinet_edge("run", bundle, video, "--top-k", "1", "--save", save)
    assert result.returncode == 0, result.stderr
    assert result.stderr == ""
    printed = "".join(result.stdout.split())  # lines are wrapped, where depends on the path
    for text in ("Putting [something] on [/b] :smile: ", "clip [red].mp4"):
        assert "".join(text.split()) in printed
    with av.open(str(save)) as container:
        assert sum(1 for _ in container.decode(video=0)) == 20
