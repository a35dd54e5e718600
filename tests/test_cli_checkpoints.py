"""Checkpoints that a command refuses: other models, code, damaged files."""

from __future__ import annotations

import os
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from movinet_edge.files import pack
from movinet_edge.models.registry import MODELS, seeded_model
from tests.commands import Refused, refused_apart

pytestmark = pytest.mark.usefixtures("no_temporary_files")


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
