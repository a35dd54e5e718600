"""Bundles of encoders' classifiers: verified files of steps and of clips in the batch axis."""

from __future__ import annotations

from pathlib import Path

import pytest

from movinet_edge.bundle import Bundle
from movinet_edge.checkpoints.native import Checkpoint, save_checkpoint
from movinet_edge.errors import BadInput
from movinet_edge.export.exporter import check_options, export
from movinet_edge.export.graph_files import ExportOptions
from movinet_edge.export.verify import verify_bundle
from movinet_edge.models.encoder import EncoderArch
from movinet_edge.models.r2plus1d_table import r2plus1d_arch
from movinet_edge.models.registry import default_preprocessing, seeded_model
from movinet_edge.models.tsm_table import tsm_arch
from tests.commands import Command

SIDE = 32
SMALL: dict[str, object] = {"classes": 5, "resolution": SIDE, "frames": 4}
ONE_WAY = tsm_arch("tiny", causal=True, **SMALL)
TWO_WAY = tsm_arch("tiny", **SMALL)


def checkpoint(arch: EncoderArch) -> Checkpoint:
    return Checkpoint(seeded_model(arch), default_preprocessing(arch))


def facts_hold(path: Path, form: str) -> None:
    """All checks hold on all engines; ranks, operators and partitions are a phone's."""
    arch = Bundle(path).manifest.provenance.architecture
    record = verify_bundle(Bundle(path))
    assert record.holds, [check for check in record.checks if not check.holds]
    assert {s.backend for s in record.streams} >= {"litert", "onnxruntime", "torch"}
    assert record.form == form
    assert all(fact.max_rank <= 4 for fact in record.facts)
    tflite = next(fact for fact in record.facts if fact.format == "tflite")
    assert tflite.partitions == 1
    # What makes the means up to every frame of a clip is a constant that the engine computes.
    assert tflite.fully_accelerated or (arch["causal"] and form == "clip")
    # R(2+1)D has one where a shortcut takes every second frame.
    assert tflite.transposes == (0 if arch["family"] == "tsm" else 3)


@pytest.mark.parametrize(
    ("arch", "form"),
    [(ONE_WAY, "fresh"), (TWO_WAY, "clip"), (r2plus1d_arch("tiny", **SMALL), "clip")],
    ids=lambda value: value.name if isinstance(value, EncoderArch) else value,
)
def test_the_command_writes_verified_files(
    call: Command, tmp_path: Path, arch: EncoderArch, form: str
) -> None:
    """`export` chooses the form: a stream's step, or whole snippets."""
    save_checkpoint(checkpoint(arch), tmp_path / "x.safetensors")
    code, out, err = call("export", tmp_path / "x.safetensors", "--out", tmp_path / "b")
    assert code == 0, err
    assert "step.onnx" in out
    facts_hold(tmp_path / "b", form)
    (graph,) = Bundle(tmp_path / "b").manifest.graphs
    assert len(graph.states) == (6 if form == "fresh" else 0)
    assert graph.frames == (1 if form == "fresh" else 4)


@pytest.mark.parametrize("form", ["carry", "clip"])
def test_other_forms_of_a_stream(tmp_path: Path, form: str) -> None:
    options = ExportOptions(form=form, clip_frames=6 if form == "clip" else None, verify=False)  # type: ignore[arg-type]
    export(checkpoint(ONE_WAY), tmp_path / "b", options)
    facts_hold(tmp_path / "b", form)


def test_precisions_of_a_step(tmp_path: Path) -> None:
    made = checkpoint(ONE_WAY)
    options = ExportOptions(precisions=("fp32", "fp16", "dynamic"))
    record = export(made, tmp_path / "b", options)
    assert record is not None
    assert record.holds, [check for check in record.checks if not check.holds]
    done = {(s.backend, s.precision) for s in record.streams if s.figures is not None}
    assert done >= {(b, p) for b in ("litert", "onnxruntime") for p in options.precisions}


@pytest.mark.parametrize(
    ("arch", "options", "reason"),
    [
        (TWO_WAY, {"form": "fresh"}, "tsm-tiny sees whole clips; export it with --form clip"),
        (TWO_WAY, {"form": "carry"}, "tsm-tiny sees whole clips; export it with --form clip"),
        (ONE_WAY, {"head_every": 4}, "--head-every is for streams of MoViNet .*leave it out$"),
        (TWO_WAY, {"form": "clip", "clip_frames": 1}, "--clip-frames is for --form clip"),
    ],
    ids=range(4),
)
def test_what_does_not_go_together(
    arch: EncoderArch, options: dict[str, object], reason: str
) -> None:
    with pytest.raises(BadInput, match=reason):
        check_options(checkpoint(arch), ExportOptions(**options))  # type: ignore[arg-type]
