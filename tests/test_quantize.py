"""Every precision of the shipped checkpoint, in both formats, on every engine."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from movinet_edge.bundle import Bundle, ModelFile
from movinet_edge.checkpoints.importer import read_checkpoint
from movinet_edge.cli.options import PrecisionName
from movinet_edge.errors import BadInput
from movinet_edge.export.exporter import export
from movinet_edge.export.graph_files import ExportOptions
from movinet_edge.export.load_check import check_loads
from movinet_edge.export.model_files import Floats
from movinet_edge.export.verify_record import VerifyRecord
from movinet_edge.runtime import Stream
from movinet_edge.runtime.video import read_frames
from tests.bundles import edited
from tests.commands import Command, Refused

PRECISIONS = tuple(name.value for name in PrecisionName)
ENGINES = ("litert", "litert-interpreter", "onnxruntime")
SHIPPED = "motion-a0-stream"


@pytest.fixture(scope="module")
def made(motion: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, VerifyRecord]:
    """A bundle with all precisions, and its proof."""
    path = tmp_path_factory.mktemp("precisions") / "bundle"
    options = ExportOptions(precisions=PRECISIONS, calibrate=motion / "train")
    record = export(read_checkpoint(Path(SHIPPED)), path, options)
    assert record is not None
    return path, record


@pytest.fixture(scope="module")
def bundle(made: tuple[Path, VerifyRecord]) -> Bundle:
    return Bundle(made[0])


def file_of(bundle: Bundle, fmt: str, precision: str) -> ModelFile:
    (graph,) = bundle.manifest.graphs
    return next(f for f in graph.files if (f.format, f.precision) == (fmt, precision))


@pytest.fixture(scope="module")
def frames(motion: Path) -> list[np.ndarray]:
    """Unseen videos, one after the other: a stream of 1,000 frames that is never reset."""
    paths = sorted((motion / "test").rglob("*.mp4")) + sorted((motion / "val").rglob("*.mp4"))
    order = np.random.default_rng(0).permutation(len(paths))
    clips = [[f.image for f in read_frames(paths[i], 2.5)] for i in order]
    flat = [image for clip in clips for image in clip]
    return [flat[i % len(flat)] for i in range(1000)]


def logits(bundle: Bundle, engine: str, precision: str, frames: list[np.ndarray]) -> np.ndarray:
    with Stream(bundle, engine, precision) as stream:
        return np.stack([prediction.logits for prediction in stream.run(frames)])


def test_all_are_proved(made: tuple[Path, VerifyRecord]) -> None:
    record = made[1]
    assert record.holds, [f"{c.subject}: {c.name}: {c.detail}" for c in record.failures]
    proved = {(stream.backend, stream.precision) for stream in record.streams}
    assert proved >= {(engine, precision) for engine in ENGINES for precision in PRECISIONS}


def test_xnnpack_takes_every_file_whole(made: tuple[Path, VerifyRecord]) -> None:
    facts = {f.precision: f for f in made[1].facts if f.format == "tflite"}
    assert {p: (f.partitions, f.fully_accelerated) for p, f in facts.items()} == dict.fromkeys(
        PRECISIONS, (1, True)
    )
    assert all(f.transposes == 0 for f in facts.values())


@pytest.mark.parametrize("fmt", ["tflite", "onnx"])
def test_sizes(bundle: Bundle, fmt: str) -> None:
    floats = file_of(bundle, fmt, "fp32").bytes
    limits = {"fp16": 0.52, "int8-weights": 0.33, "dynamic": 0.5, "int8": 0.33}
    for precision, limit in limits.items():
        assert file_of(bundle, fmt, precision).bytes <= limit * floats, precision


@pytest.mark.parametrize(("fmt", "dtype", "zero"), [("tflite", "int8", -128), ("onnx", "uint8", 0)])
def test_hosts_rotate_raw_integers(bundle: Bundle, fmt: str, dtype: str, zero: int) -> None:
    """Buffers have one scale for all frames, the frame is bytes; what adds up stays float."""
    file = file_of(bundle, fmt, "int8")
    (frame,) = (t for t in file.inputs if t.role == "frame")
    assert frame.dtype == dtype
    assert frame.quantization is not None
    assert frame.quantization.zero_point == zero
    assert frame.quantization.scale == pytest.approx(1 / 255)
    for rule in bundle.manifest.graphs[0].states:
        ends = [t for t in (*file.inputs, *file.outputs) if t.state == rule.name]
        kinds = {(t.dtype, t.quantization) for t in ends}
        assert len(kinds) == 1, rule.name
        ((kind, quantization),) = kinds
        assert kind == (dtype if rule.rule == "shift" else "float32"), rule.name
        assert (quantization is not None) == (rule.rule == "shift")
    kept = bundle.manifest.graphs[0].state_bytes
    assert kept(file) < 0.35 * kept(file_of(bundle, fmt, "fp32"))


@pytest.mark.parametrize("engine", ["litert", "onnxruntime"])
@pytest.mark.parametrize("precision", PRECISIONS[1:])
def test_a_long_stream_does_not_drift(
    bundle: Bundle, frames: list[np.ndarray], engine: str, precision: str
) -> None:
    expected = logits(bundle, engine, "fp32", frames)
    found = logits(bundle, engine, precision, frames)
    # Without what all classes have in common, which any answer shares.
    a, b = (x - x.mean(1, keepdims=True) for x in (expected, found))
    cosine = (a * b).sum(1) / (np.linalg.norm(a, axis=1) * np.linalg.norm(b, axis=1))
    assert cosine.mean() >= 0.99
    assert cosine.min() >= 0.95
    error = np.abs(found - expected).max(1) / expected.std()
    slope = np.polyfit(np.arange(len(error)), error, 1)[0]
    assert slope * len(error) < 0.05, "the error grows"


@pytest.mark.parametrize("engine", ["litert", "onnxruntime"])
@pytest.mark.parametrize("precision", PRECISIONS)
def test_unseen_videos_keep_their_class(
    bundle: Bundle, motion: Path, engine: str, precision: str
) -> None:
    right, paths = 0, sorted((motion / "test").rglob("*.mp4"))
    with Stream(bundle, engine, precision) as stream:
        for path in paths:
            stream.reset()
            *_, last = stream.run(f.image for f in read_frames(path, 2.5))
            right += last.top(1)[0].label == path.parent.name
    assert right >= len(paths) - 1, f"{right} of {len(paths)}"


def test_it_is_made_the_same_way_twice(bundle: Bundle, motion: Path, tmp_path: Path) -> None:
    options = ExportOptions(
        formats=("onnx",), precisions=("int8",), calibrate=motion / "train", verify=False
    )
    export(read_checkpoint(Path(SHIPPED)), tmp_path / "again", options)
    again = file_of(Bundle(tmp_path / "again"), "onnx", "int8")
    assert again.sha256 == file_of(bundle, "onnx", "int8").sha256
    # Without floats in the bundle a stream takes what there is.
    with Stream(tmp_path / "again", "onnxruntime") as stream:
        assert stream.graphs["step"].file.precision == "int8"


def test_a_pattern_ends_with_its_number() -> None:
    floats = Floats(["b1.l1", "b2_l0/expand"])
    assert floats("body/blocks/b1_l1/expand;3")
    assert not floats("body/blocks/b1_l10/expand")
    with pytest.raises(BadInput, match="b2_l0/expand fits no part"):
        floats.check()
    assert floats("body.blocks.b2_l0.expand/conv2d")
    floats.check()


@pytest.mark.parametrize("fmt", ["onnx", "tflite"])
def test_parts_may_stay_float(motion: Path, tmp_path: Path, fmt: str) -> None:
    options = ExportOptions(
        formats=(fmt,),  # type: ignore[arg-type]
        precisions=("int8",),
        calibrate=motion / "train",
        calibration_frames=100,
        keep_float=("b1.l0", "head"),
    )
    record = export(read_checkpoint(Path(SHIPPED)), tmp_path / "b", options)
    assert record is not None
    assert record.holds
    bundle = Bundle(tmp_path / "b")
    file = file_of(bundle, fmt, "int8")
    assert file.calibration is not None
    assert file.calibration.keep_float == ("b1.l0", "head")
    kinds = {t.state: t.dtype for t in file.inputs if t.state is not None and "stream" in t.state}
    assert kinds["b1.l0.stream"] == "float32"
    assert kinds["b1.l1.stream"] != "float32"


def test_commands_take_a_precision(call: Command, bundle: Bundle, motion: Path) -> None:
    words = "--data", motion, "--split", "test", "--limit", 3, "--precision", "int8"
    code, out, err = call("evaluate", bundle.root, *words)
    assert code == 0, err
    assert "(int8)" in out
    video = next((motion / "test").rglob("*.mp4"))
    code, out, err = call("run", bundle.root, video, "--precision", "dynamic", "--json")
    assert code == 0, err
    code, out, err = call("run", bundle.root, video, "--backend", "torch", "--precision", "int8")
    assert code == 2
    assert "has no int8 torch file" in err


def test_a_file_that_does_not_run_is_refused(bundle: Bundle, tmp_path: Path) -> None:
    import hashlib

    half = bundle.file(file_of(bundle, "tflite", "int8")).read_bytes()[:200_000]

    def change(manifest: dict) -> None:  # type: ignore[type-arg]
        (file,) = (f for f in manifest["graphs"][0]["files"] if f["path"] == "step.int8.tflite")
        file["sha256"] = hashlib.sha256(half).hexdigest()

    broken = edited(bundle.root, tmp_path / "broken", change)
    (broken / "step.int8.tflite").write_bytes(half)
    with pytest.raises(BadInput, match="litert cannot run the int8 file that was written"):
        check_loads(Bundle(broken))


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["int8"], "int8 needs videos of what the model will see"),
        (["int8", "--calibrate", "nowhere"], "there are no calibration videos at nowhere"),
        (["int8", "--calibrate", "{empty}"], "has no calibration videos; name a folder"),
        (["int8", "--calibrate", "{few}"], "gives 8 frames at 2.5 per second, and calibration"),
        (["int8", "--calibrate", "{motion}", "--form", "clip"], "take --precision dynamic"),
        (
            ["int8", "--calibrate", "{motion}", "--keep-float", "b9.l9", "--format", "onnx"],
            "--keep-float b9.l9 fits no part of the model; parts are called as movinet-edge",
        ),
        (
            ["int8", "--calibrate", "{motion}", "--in-graph-preprocess"],
            "int8 takes bytes as it is; leave out --in-graph-preprocess",
        ),
    ],
)
def test_what_cannot_be_calibrated(
    refused: Refused, motion: Path, tmp_path: Path, arguments: list[str], sentence: str
) -> None:
    (tmp_path / "empty").mkdir()
    first = next((motion / "test").rglob("*.mp4"))
    places = {"empty": tmp_path / "empty", "few": first, "motion": motion / "train"}
    words = [word.format(**places) for word in arguments]
    out = tmp_path / "out"
    error = refused("export", SHIPPED, "--out", out, "--precision", *words)
    assert sentence in error
    assert not out.exists()


def test_positional_encodings_stay_float(refused: Refused, motion: Path, tmp_path: Path) -> None:
    words = "--precision", "int8", "--calibrate", motion / "train"
    error = refused("export", "a3-stream", "--out", tmp_path / "out", *words)
    assert "positional encodings is not supported; take --precision dynamic" in error
