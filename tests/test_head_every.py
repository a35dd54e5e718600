"""Streams whose classifier is a graph of its own that runs at every fifth frame."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from movinet_edge.benchmarks.bundled import bytes_per_step, macs_per_step
from movinet_edge.bundle import Bundle, Plan, PlanStep
from movinet_edge.checkpoints.native import Checkpoint
from movinet_edge.export.exporter import ExportOptions, export
from movinet_edge.export.reference import reference_logits
from movinet_edge.models.registry import MODELS, deploy_parts
from movinet_edge.runtime import Stream
from movinet_edge.train.protocols import BundlePredictor, EvalProtocol
from tests.bundles import clip
from tests.commands import Command, Refused
from tests.conftest import seeded_checkpoint

SIDE, EVERY, FRAMES = 64, 5, 8


@pytest.fixture(scope="module")
def source() -> Checkpoint:
    return seeded_checkpoint(MODELS["movinet-a0-stream"], SIDE)


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory, source: Checkpoint) -> Path:
    """Proven as it is written: parity and properties of every graph, on all engines."""
    path = tmp_path_factory.mktemp("head") / "bundle"
    record = export(source, path, ExportOptions(head_every=EVERY))
    assert record is not None
    assert record.holds, [c for c in record.checks if not c.holds]
    assert {s.backend for s in record.streams} >= {"torch", "litert", "onnxruntime"}
    return path


@pytest.fixture(scope="module")
def whole(source: Checkpoint) -> np.ndarray:
    """The model's answers to all frames."""
    plan = Plan(steps=(PlanStep(graph="step"),))
    return reference_logits({"step": source.model}, plan, 1, clip(FRAMES, SIDE, SIDE))


@pytest.mark.parametrize("backend", ["torch", "litert", "onnxruntime"])
def test_answers_are_the_models_at_every_fifth_frame(
    bundle: Path, whole: np.ndarray, backend: str
) -> None:
    frames = clip(FRAMES, SIDE, SIDE)
    with Stream(bundle, backend) as stream:
        predictions = list(stream.run(frames))
        final = stream.finish()
    assert [p.frame for p in predictions] == list(range(FRAMES))
    expected = whole[[n - n % EVERY for n in range(FRAMES)]]
    tolerance = 1e-4 * whole.std()
    np.testing.assert_allclose([p.logits for p in predictions], expected, atol=tolerance)
    assert final is not None
    np.testing.assert_allclose(final.logits, whole[-1], atol=tolerance)
    assert np.abs(whole[-1] - expected[-1]).max() > 10 * tolerance


def test_the_plan_and_what_it_saves(bundle: Path, source: Checkpoint) -> None:
    manifest = Bundle(bundle).manifest
    assert [(s.graph, s.every, s.offset) for s in manifest.plan.steps] == [
        ("body", 1, 0),
        ("head", EVERY, 0),
    ]
    assert (manifest.reference, manifest.renewal) == ("step", EVERY)
    body, head, step = (manifest.graph(name) for name in ("body", "head", "step"))
    arch = source.arch.model_dump()
    dense = 480 * arch["hidden"] + arch["hidden"] * arch["classes"]
    assert head.macs == dense
    assert body.macs + head.macs == step.macs
    assert macs_per_step(manifest, 1) == pytest.approx(step.macs - dense * (1 - 1 / EVERY))
    assert not head.states
    for fmt in ("onnx", "tflite"):
        files = {g.name: f for g in (body, head) for f in g.files if f.format == fmt}
        # Weights of the classifier, and of nothing else.
        assert 4 * dense < files["head"].bytes < 4.1 * dense
        moved = bytes_per_step(manifest, files, 1)
        assert moved < files["body"].bytes * 1.3 + files["head"].bytes / EVERY * 1.1


def test_parts_of_the_usual_plan_are_as_they_were(source: Checkpoint) -> None:
    (part,) = deploy_parts(source.model, (SIDE, SIDE))
    assert (part.name, part.every, part.features) == ("step", 1, ())


def test_clips_are_as_long_as_the_models(bundle: Path, source: Checkpoint) -> None:
    with Stream(bundle, "onnxruntime") as stream:
        predictor = BundlePredictor(stream, EvalProtocol("clip"))
    assert predictor.protocol.frames == source.arch.clip_frames


def test_the_command(call: Command, bundle: Path) -> None:
    code, out, err = call("inspect", bundle)
    assert code == 0, err
    assert f"graph head: form fresh, 1 frame(s) per run, every {EVERY} frames from 0 on" in out


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (("a0-stream", "--form", "carry"), "--head-every is for streams of MoViNet in the form"),
        (("a0-base",), "--head-every is for streams of MoViNet in the form fresh"),
        (("slowfast-tiny-causal",), "has a plan of its own"),
    ],
)
def test_what_has_no_such_plan(
    refused: Refused, tmp_path: Path, words: tuple[str, ...], says: str
) -> None:
    out = ("--out", tmp_path / "b")
    assert says in refused("export", *words, "--head-every", EVERY, *out).replace("\n", " ")
