"""Bundles of SlowFast: several graphs at two rates, answers that come late, whole clips."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from movinet_edge.bundle import Bundle, Precision, ProfileName
from movinet_edge.checkpoints.native import Checkpoint
from movinet_edge.errors import BadInput
from movinet_edge.export.exporter import export
from movinet_edge.export.graph_files import ExportOptions
from movinet_edge.export.profiles import PROFILES, refuse
from movinet_edge.export.verify import verify_bundle
from movinet_edge.models.registry import default_preprocessing, seeded_model
from movinet_edge.models.slowfast_table import slowfast_arch
from movinet_edge.models.slowfast_timing import timing
from movinet_edge.runtime import Stream
from tests.bundles import clip, logits_of
from tests.commands import Command, movinet_edge
from tests.videos import encode_video

SIDE = 32


def checkpoint(**changes: object) -> Checkpoint:
    arch = slowfast_arch("tiny", **{"classes": 7, "resolution": SIDE} | changes)
    return Checkpoint(seeded_model(arch), default_preprocessing(arch))


@pytest.fixture(scope="module")
def delayed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The published kind, both formats."""
    path = tmp_path_factory.mktemp("slowfast") / "delayed"
    export(checkpoint(), path, ExportOptions(verify=False))
    return path


@pytest.fixture(scope="module")
def causal(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("slowfast") / "causal"
    export(checkpoint(causal=True), path, ExportOptions(("onnx",), verify=False))
    return path


def test_the_delayed_bundle_is_verified(delayed: Path) -> None:
    """Parity on all engines, properties of a plan of three graphs, and the end is the clip."""
    record = verify_bundle(Bundle(delayed))
    assert record.holds, [check for check in record.checks if not check.holds]
    names = [check.name for check in record.checks]
    assert names.count("the completed stream answers as the whole clip") == len(record.streams)
    assert {s.backend for s in record.streams} >= {"litert", "onnxruntime", "torch"}
    assert all(fact.max_rank <= 4 for fact in record.facts)


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("label", ["8x8-r50", "small"])
def test_published_sizes_stream(tmp_path: Path, label: str) -> None:
    """At 224 pixels (the small one at 112), each engine's completed stream is the clip's answer."""
    arch = slowfast_arch(label)
    made = Checkpoint(seeded_model(arch), default_preprocessing(arch))
    record = export(made, tmp_path / "b", ExportOptions())
    assert record is not None
    assert record.holds, [check for check in record.checks if not check.holds]
    assert Bundle(tmp_path / "b").manifest.plan.delay == timing(arch).delay
    assert all(fact.max_rank <= 4 for fact in record.facts)
    assert not any("CONV_3D" in fact.operators for fact in record.facts)


def test_the_causal_bundle_is_verified(causal: Path) -> None:
    record = verify_bundle(Bundle(causal))
    assert record.holds, [check for check in record.checks if not check.holds]
    assert Bundle(causal).manifest.plan.delay == 0


@pytest.mark.parametrize(
    "changes",
    [
        {"fusion": "ttoc-concat"},
        {"fusion": "t-sample", "causal": True},
        {"fusion_kernel": 7, "alpha": 2},
        {"pathways": ("slow",), "fusion": "none"},
        {"pathways": ("fast",), "fusion": "none", "causal": True},
        {"pool": "window", "causal": True},
        {"pool": "window"},
    ],
    ids=str,
)
def test_every_kind_streams(tmp_path: Path, changes: dict[str, object]) -> None:
    record = export(checkpoint(**changes), tmp_path / "b", ExportOptions(("onnx",)))
    assert record is not None
    assert record.holds, [check for check in record.checks if not check.holds]


@pytest.mark.parametrize("backend", ["onnxruntime", "litert", "torch"])
def test_a_stream_that_looks_ahead(delayed: Path, backend: str) -> None:
    """Nothing is answered before the first frame is known; the end completes, and ends."""
    bundle = Bundle(delayed)
    delay = bundle.manifest.plan.delay
    assert delay == timing(slowfast_arch("tiny")).delay
    frames = clip(delay + 3, SIDE, SIDE)
    with Stream(bundle, backend) as stream:
        answers = [stream.step(frame) for frame in frames]
        assert [a is None for a in answers] == [True] * delay + [False] * 3
        end = stream.finish()
        again = stream.finish()
        assert end is not None
        assert again is not None
        np.testing.assert_array_equal(end.logits, again.logits)
        assert end.frame == len(frames) - 1
        with pytest.raises(ValueError, match="ended"):
            stream.step(frames[0])
        stream.reset()
        np.testing.assert_array_equal(
            logits_of(stream, frames), np.stack([a.logits for a in answers if a is not None])
        )


def test_a_video_shorter_than_the_delay_has_an_answer(delayed: Path) -> None:
    with Stream(delayed, "onnxruntime") as stream, Stream(delayed, "torch") as reference:
        frames = clip(5, SIDE, SIDE)
        assert logits_or_none(stream, frames) == logits_or_none(reference, frames) == [None] * 5
        one, other = stream.finish(), reference.finish()
    assert one is not None
    assert other is not None
    np.testing.assert_allclose(one.logits, other.logits, atol=1e-4)


def logits_or_none(stream: Stream, frames: np.ndarray) -> list[object]:
    return [stream.step(frame) for frame in frames]


def test_the_clip_form(tmp_path: Path) -> None:
    """One graph, frames in the batch axis, the published choice of Slow frames."""
    record = export(checkpoint(), tmp_path / "b", ExportOptions(("onnx",), form="clip"))
    assert record is not None
    assert record.holds, [check for check in record.checks if not check.holds]
    (graph,) = Bundle(tmp_path / "b").manifest.graphs
    assert graph.frames == 16
    assert not graph.states


def test_a_clip_of_larger_frames(tmp_path: Path) -> None:
    """The head at every place, as in the 30-view protocol (256 px after training on 224)."""
    kind = checkpoint()
    contract = kind.preprocessing.model_copy(update={"height": 64, "width": 64})
    larger = Checkpoint(kind.model, contract)
    record = export(larger, tmp_path / "b", ExportOptions(form="clip"))
    assert record is not None
    assert record.holds, [check for check in record.checks if not check.holds]


def test_non_local_blocks_have_clips_only(tmp_path: Path) -> None:
    kind = checkpoint(nonlocal_blocks=((), (), (0,), ()))
    record = export(kind, tmp_path / "b", ExportOptions(("onnx",), form="clip"))
    assert record is not None
    assert record.holds, [check for check in record.checks if not check.holds]
    with pytest.raises(BadInput, match="--form clip"):
        export(kind, tmp_path / "c", ExportOptions(("onnx",)))
    assert not (tmp_path / "c").exists()


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"form": "carry"}, "--form fresh"),
        ({"precisions": ("int8",)}, "--calibrate"),
    ],
)
def test_what_is_refused(tmp_path: Path, options: dict[str, object], sentence: str) -> None:
    with pytest.raises(BadInput, match=sentence):
        export(checkpoint(), tmp_path / "b", ExportOptions(("onnx",), **options))  # type: ignore[arg-type]
    assert not (tmp_path / "b").exists()


@pytest.mark.parametrize(
    ("profile", "changes"),
    [
        ("coreml", {}),
        ("gpu", {"pool": "window", "causal": True}),
        *(
            pytest.param(*case, marks=pytest.mark.slow)
            for case in (
                ("nnapi", {}),
                ("nnapi", {"pool": "window", "causal": True}),
                ("nnapi", {"fusion": "ttoc-sum", "causal": True}),
                ("gpu", {}),
                ("coreml", {"pool": "window"}),
            )
        ),
    ],
    ids=str,
)
def test_every_graph_obeys_its_profile(
    tmp_path: Path, profile: ProfileName, changes: dict[str, object]
) -> None:
    """In one partition; where they have to be, what is emitted are copies, of features also."""
    formats = PROFILES[profile].formats
    # At 32 pixels the last maps have one, and the converter makes sums of their means.
    options = ExportOptions(formats, profile=profile)
    record = export(checkpoint(resolution=64, **changes), tmp_path / "b", options)
    assert record is not None
    assert record.holds, [(c.subject, c.name, c.detail) for c in record.failures]
    for fmt in formats:
        for name in ("fast", "slow", "head"):
            file = f"{name}.{fmt}"
            rows = PROFILES[profile].checkers[fmt].rows(tmp_path / "b" / file)
            checked = {c.name for c in record.checks if c.subject == file and c.kind == "graph"}
            assert checked.issuperset(row for row, _, _ in rows)


@pytest.mark.parametrize("name", ["nnapi", "coreml"])
def test_both_spellings_under_onnx_runtime(causal: Path, delayed: Path, name: str) -> None:
    """SlowFast has nothing that these profiles spell otherwise: files of the CPU obey, too."""
    check = PROFILES[name].checkers["onnx"].rows  # type: ignore[index]
    for path in (causal, delayed):
        for file in path.glob("*.onnx"):
            assert all(holds for _, holds, _ in check(file)), file.name


@pytest.mark.slow
def test_int8_for_nnapi(tmp_path: Path) -> None:
    video = encode_video(tmp_path / "v.mp4", clip(150, 48, 48), rate=15)
    precisions: tuple[Precision, ...] = ("fp32", "dynamic", "int8")
    options = ExportOptions(("tflite",), precisions, calibrate=video, profile="nnapi")
    record = export(checkpoint(causal=True, resolution=64), tmp_path / "b", options)
    assert record is not None
    assert record.holds, [(c.subject, c.name, c.detail) for c in record.failures]
    checked = [c.subject for c in record.checks if c.name == "NNAPI takes every operator"]
    assert len(checked) == 9


@pytest.mark.parametrize("name", ["nnapi", "gpu", "coreml"])
@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({}, "take --form fresh"),
        ({"nonlocal_blocks": ((), (), (0,), ())}, "sees whole clips; take --profile cpu"),
    ],
)
def test_clips_have_no_profile(
    name: ProfileName, changes: dict[str, object], sentence: str
) -> None:
    arch = slowfast_arch("tiny", **changes)
    options = ExportOptions(PROFILES[name].formats, form="clip", profile=name)
    with pytest.raises(BadInput, match=f"^--profile {name} is for streams, .*{sentence}"):
        refuse(arch, options)


def test_smaller_precisions(tmp_path: Path) -> None:
    options = ExportOptions(("onnx",), precisions=("fp32", "fp16", "int8-weights", "dynamic"))
    record = export(checkpoint(causal=True), tmp_path / "b", options)
    assert record is not None
    assert record.holds, [check for check in record.checks if not check.holds]


@pytest.mark.parametrize("causal", [False, True], ids=["delayed", "causal"])
def test_static_int8(tmp_path: Path, causal: bool) -> None:
    """Calibrated graph by graph on what the graphs before it give; states are raw integers."""
    video = encode_video(tmp_path / "v.mp4", clip(150, 48, 48), rate=15)
    options = ExportOptions(("onnx",), precisions=("fp32", "int8"), calibrate=video)
    record = export(checkpoint(causal=causal), tmp_path / "b", options)
    assert record is not None
    assert record.holds, [check for check in record.checks if not check.holds]
    for graph in Bundle(tmp_path / "b").manifest.graphs:
        for file in graph.files:
            if file.precision == "int8":
                raw = {s.state for s in file.inputs if s.dtype == "uint8" and s.role == "state"}
                assert raw == {s.name for s in graph.states if s.rule == "shift"}


def test_a_stream_is_what_the_command_writes(tmp_path: Path, call: Command) -> None:
    """Also of a model that looks ahead; with what it keeps and how late it answers."""
    words = ("--format", "onnx", "--no-verify", "--size", 32)
    code, out, _ = call("export", "slowfast-tiny", "--out", tmp_path / "b", *words)
    assert code == 0
    manifest = Bundle(tmp_path / "b").manifest
    assert [graph.name for graph in manifest.graphs] == ["fast", "slow", "head", "step"]
    with Stream(tmp_path / "b") as stream:
        states = sum(runner.state_bytes for runner in stream.graphs.values())
        features = sum(runner.feature_bytes for runner in stream.graphs.values())
    kept = f"states of {states / 1e6:.2f} MB and features of {features / 1e6:.2f} MB"
    assert f"onnx fp32 keeps {kept} from frame to frame" in out
    assert f"answers come {manifest.plan.delay} frames" in out


def test_export_and_inspect_tell_the_delay(delayed: Path) -> None:
    shown = movinet_edge("inspect", delayed).stdout
    delay = Bundle(delayed).manifest.plan.delay
    assert f"answers come {delay} frames" in shown
    assert "the whole model in PyTorch" in shown
