"""Bundles of AR-Net in fewer bits: every graph in its own, decisions and answers judged."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from movinet_edge.bundle import Bundle, Precision
from movinet_edge.checkpoints.native import Checkpoint
from movinet_edge.data.motion import MotionConfig, make_motion
from movinet_edge.export.calibration import calibration_streams
from movinet_edge.export.decisions import follow, judged, run_and_note
from movinet_edge.export.exporter import export
from movinet_edge.export.graph_files import ExportOptions
from movinet_edge.export.precision import PRECISIONS
from movinet_edge.export.verify_record import VerifyRecord, measure
from movinet_edge.models.registry import default_preprocessing
from movinet_edge.runtime import Stream
from tests.arnets import ENGINES, checkpoint
from tests.test_arnet import tiny

PRECISE: tuple[Precision, ...] = ("fp32", "fp16", "int8")
GRAPHS = ("policy", "backbone_0", "backbone_1")

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def adaptive(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Videos in which little happens; the training split is calibrated on."""
    out = tmp_path_factory.mktemp("adaptive") / "videos"
    make_motion(MotionConfig(classes=4, per_class=3, size=64, variant="adaptive"), out, jobs=1)
    return out


@pytest.fixture(scope="module")
def model(adaptive: Path) -> Checkpoint:
    contract = default_preprocessing(tiny(rate=10.0))
    streams = calibration_streams(adaptive / "val", contract, 200)
    images = np.concatenate([stream.images for stream in streams])
    # Of these random weights no score is lost beside what the policy always says.
    return checkpoint(images, seed=3, rate=10.0)


@pytest.fixture(scope="module")
def proved(
    model: Checkpoint, adaptive: Path, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Path, VerifyRecord]:
    """A bundle calibrated on those videos, and what its own proof found on one of them."""
    path = tmp_path_factory.mktemp("arnet") / "bundle"
    options = ExportOptions(precisions=PRECISE, calibrate=adaptive, calibration_frames=200)
    record = export(model, path, options)
    assert record is not None
    return path, record


def test_every_precision_is_proved(proved: tuple[Path, VerifyRecord]) -> None:
    """On both engines; each of them was judged by its decisions, too."""
    _, record = proved
    assert record.holds, record.failures
    found = {(s.backend, s.precision) for s in record.streams if s.decisions is not None}
    assert found >= {(engine, p) for engine in ENGINES for p in PRECISE}
    for stream in record.streams:
        if stream.decisions is not None:
            assert stream.decisions.decided > 4
            assert stream.decisions.equal == 1 or stream.precision != "fp32"


def test_every_graph_has_its_own(proved: tuple[Path, VerifyRecord]) -> None:
    """In both formats, fp16 smaller than floats; integers take and hand over bytes."""
    manifest = Bundle(proved[0]).manifest
    for name in GRAPHS:
        files = [file for file in manifest.graph(name).files if file.format != "torch"]
        assert Counter(f.precision for f in files) == dict.fromkeys(PRECISE, 2)
        for fmt in ("onnx", "tflite"):
            sizes = {f.precision: f.bytes for f in files if f.format == fmt}
            assert sizes["fp16"] < sizes["fp32"], sizes
        for file in files:
            (frame,) = [spec for spec in file.inputs if spec.role == "frame"]
            assert (frame.dtype in ("uint8", "int8")) == (file.precision == "int8")


@pytest.mark.parametrize("backend", ENGINES)
@pytest.mark.parametrize("precision", ["fp16", "int8"])
def test_on_videos_it_has_not_seen(
    proved: tuple[Path, VerifyRecord],
    model: Checkpoint,
    adaptive: Path,
    backend: str,
    precision: Precision,
) -> None:
    """Each decision on the same past as the model's; what differs was close, and rare in fp16."""
    manifest, limits = Bundle(proved[0]).manifest, PRECISIONS[precision].stream
    assert manifest.plan.choice is not None
    actions = Counter[int]()
    for video in calibration_streams(adaptive / "test", model.preprocessing, 200):
        with Stream(proved[0], backend, precision=precision) as stream:
            answers, taken = run_and_note(stream, video.images)
        assert taken is not None
        wanted, scores = follow(model.model, video.images, taken.numbers)
        found = judged(manifest.plan.choice, scores.scores, taken, limits)
        actions.update(taken.numbers[taken.decided].tolist())
        assert all(flip.is_close for flip in found.flips), found.flips
        assert found.equal >= (0.99 if precision == "fp16" else 0.75)
        assert measure(wanted, answers, limits).max_error <= limits.max_error
    assert actions.total() > 50
    assert len(actions) > 3, actions


def test_fewer_bits(arnet: Checkpoint, tmp_path: Path) -> None:
    """What needs no calibration, on drawn clips."""
    precisions: tuple[Precision, ...] = ("fp16", "int8-weights", "dynamic")
    record = export(arnet, tmp_path / "b", ExportOptions(precisions=precisions))
    assert record is not None
    assert record.holds, record.failures
    files = [f for g in Bundle(tmp_path / "b").manifest.graphs for f in g.files]
    assert Counter(f.precision for f in files if f.format != "torch") == dict.fromkeys(
        precisions, 6
    )


def test_a_policy_in_floats(model: Checkpoint, adaptive: Path, tmp_path: Path) -> None:
    """``--keep-float policy``: the backbones are integers, and decisions those of floats."""
    options = ExportOptions(
        ("onnx",),
        ("fp32", "int8"),
        calibrate=adaptive,
        calibration_frames=100,
        keep_float=("policy",),
        verify=False,
    )
    export(model, tmp_path / "b", options)
    streams = calibration_streams(adaptive / "test", model.preprocessing, 200)
    images = np.concatenate([stream.images for stream in streams])
    found = []
    for precision in ("fp32", "int8"):
        with Stream(tmp_path / "b", "onnxruntime", precision=precision) as stream:
            answers, taken = run_and_note(stream, images)
            assert taken is not None
            found.append((answers, taken.numbers))
    np.testing.assert_array_equal(found[0][1], found[1][1])
    assert 0 in found[0][1]  # the first backbone looked
    assert not np.array_equal(found[0][0], found[1][0])
