"""Making temporal ensembles: of any members that belong together, also by the command."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from movinet_edge.benchmarks.bundled import macs_per_step
from movinet_edge.bundle import Bundle
from movinet_edge.checkpoints.native import Checkpoint, save_checkpoint
from movinet_edge.errors import BadInput
from movinet_edge.export.ensemble import export_ensemble
from movinet_edge.export.graph_files import ExportOptions
from movinet_edge.export.verify import verify_bundle
from movinet_edge.export.verify_record import VerifyRecord
from movinet_edge.runtime import Stream
from tests.bundles import logits_of
from tests.commands import Command, Refused
from tests.ensembles import CLASSES, RATE, assert_close, clip, expected_logits, member

TORCH_ONLY = ExportOptions(formats=(), verify=False)


def test_three_members_take_turns(members: list[Checkpoint], tmp_path: Path) -> None:
    three = [*members, member(2)]
    export_ensemble(three, tmp_path / "b", TORCH_ONLY)
    bundle = Bundle(tmp_path / "b")
    assert bundle.manifest.preprocessing.frame_rate == 3 * RATE
    assert bundle.manifest.plan.period == 3
    assert macs_per_step(bundle.manifest, 1) == pytest.approx(bundle.manifest.graphs[0].macs)
    frames = clip(8)
    with Stream(bundle, "torch") as stream:
        assert_close(logits_of(stream, frames), expected_logits(three, frames))
    record = verify_bundle(bundle, steps=50)  # sub-clips that end in the middle of a turn
    assert record.holds, record.failures


def test_logits_are_averaged_before_the_softmax(members: list[Checkpoint], tmp_path: Path) -> None:
    options = ExportOptions(("onnx",), in_graph_preprocess=True, softmax=True, verify=False)
    export_ensemble(members, tmp_path / "b", options)
    bundle, frames = Bundle(tmp_path / "b"), clip(5)
    logits = expected_logits(members, frames)
    expected = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    for backend in ("onnxruntime", "torch"):
        with Stream(bundle, backend) as stream:
            got = np.stack([p.probabilities for p in stream.run(frames)])
        np.testing.assert_allclose(got, expected, atol=1e-6)
    record = verify_bundle(bundle, properties=False)
    assert record.holds, record.failures


def test_re_export_is_bit_identical(members: list[Checkpoint], tmp_path: Path) -> None:
    for name in ("one.zip", "two.zip"):
        export_ensemble(members, tmp_path / name, TORCH_ONLY)
    assert (tmp_path / "one.zip").read_bytes() == (tmp_path / "two.zip").read_bytes()


# Members that are refused ------------------------------------------------------------------


def other(checkpoint: Checkpoint, **contract: object) -> Checkpoint:
    changed = checkpoint.preprocessing.model_copy(update=contract)
    return Checkpoint(checkpoint.model, changed, checkpoint.labels)


def labelled(checkpoint: Checkpoint, *labels: str) -> Checkpoint:
    return Checkpoint(checkpoint.model, checkpoint.preprocessing, list(labels))


LABELS = tuple(f"label {i}" for i in range(CLASSES))


REFUSED: dict[str, tuple[Callable[[Checkpoint], list[Checkpoint]], str]] = {
    "one": (lambda a: [a], "2 to 26 checkpoints, not 1; "),
    "classes": (
        lambda a: [a, member(1, classes=CLASSES + 1)],
        "checkpoint 2 differs from the first in its architecture (classes: 8 instead of 7); train",
    ),
    "gate": (lambda a: [a, member(1, gate="sigmoid")], "(gate: 'sigmoid' instead of 'hard_"),
    "third": (
        lambda a: [a, a, member(1, gate="sigmoid")],
        "checkpoint 3 differs from the first in its arch",
    ),
    "rate": (
        lambda a: [a, other(a, frame_rate=5.0)],
        "in its preprocessing (frame_rate: 5.0 instead of 2.5)",
    ),
    "size": (lambda a: [a, other(a, height=96)], "(height: 96 instead of 64); train them on"),
    "no labels": (lambda a: [labelled(a, *LABELS), a], "and 4 more); give one label file"),
    "order of labels": (
        lambda a: [labelled(a, *LABELS), labelled(a, "label 1", "label 0", *LABELS[2:])],
        "in its labels (0: 'label 1' instead of 'label 0', 1: 'label 0' instead of 'label 1'); ",
    ),
    "whole clips": (lambda a: [member(0, causal=False)] * 2, "which sees whole clips; give stream"),
    "too few labels": (lambda a: [labelled(a, "x")] * 2, "1 labels for 7 classes"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_members_that_do_not_belong_together(
    members: list[Checkpoint], tmp_path: Path, case: str
) -> None:
    make, reason = REFUSED[case]
    with pytest.raises(BadInput) as refused:
        export_ensemble(make(members[0]), tmp_path / "b", TORCH_ONLY)
    assert reason in str(refused.value)
    assert not list(tmp_path.iterdir())


def test_whole_clips_are_no_ensemble(members: list[Checkpoint], tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="fresh or carry"):
        export_ensemble(members, tmp_path / "b", ExportOptions(form="clip"))


# The command -------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def checkpoints(members: list[Checkpoint], tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    folder = tmp_path_factory.mktemp("checkpoints")
    paths = [folder / "a.safetensors", folder / "b.safetensors", folder / "rate.safetensors"]
    for one, path in zip([*members, other(members[0], frame_rate=5.0)], paths, strict=True):
        save_checkpoint(one, path)
    return paths


def test_the_command_writes_a_proved_bundle(
    call: Command,
    checkpoints: list[Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    labels, out = tmp_path / "labels.txt", tmp_path / "b"
    labels.write_text("".join(f"{x}\n" for x in LABELS))
    arguments = ["--format", "onnx", "--labels", labels, "--zip", "--out", out]
    code, said, errors = call("ensemble", *checkpoints[:2], *arguments)
    assert code == 0, errors
    assert "model_b.onnx" in said
    assert said.splitlines()[-1] == f"wrote {out}.zip"
    assert "note" not in errors
    bundle = Bundle(tmp_path / "b.zip")
    assert bundle.labels == list(LABELS)
    record = VerifyRecord.model_validate_json((bundle.root / "parity.json").read_bytes())
    assert record.holds
    assert sorted(p.name for p in tmp_path.iterdir()) == ["b.zip", "labels.txt"]


def test_a_copy_is_noted(
    call: Command, checkpoints: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    arguments = ["--format", "onnx", "--no-verify", "--out", tmp_path / "b"]
    code, _, errors = call("ensemble", checkpoints[0], checkpoints[0], *arguments)
    assert code == 0
    assert "note: some members have the same weights" in errors
    assert [p.name for p in tmp_path.iterdir()] == ["b"]


@pytest.mark.parametrize(
    ("sources", "reason"),
    [
        ([0], "2 to 26 checkpoints, not 1"),
        ([1, 2], "frame_rate: 5.0 instead of 2.5"),
    ],
)
def test_the_command_refuses(
    refused: Refused, checkpoints: list[Path], tmp_path: Path, sources: list[int], reason: str
) -> None:
    arguments = *(checkpoints[i] for i in sources), "--out", tmp_path / "b"
    assert reason in refused("ensemble", *arguments)
    assert not list(tmp_path.iterdir())
