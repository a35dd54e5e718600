"""The native step runner: every kind of bundle, as the Python runtime answers; what it refuses."""

from __future__ import annotations

import os
import subprocess
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from movinet_edge.benchmarks.native import (
    EngineName,
    NativeOptions,
    build,
    engine_library,
    run,
)
from movinet_edge.benchmarks.native_plan import PLAN, Prepared, prepare
from movinet_edge.benchmarks.native_record import (
    NativeRun,
    check_parity,
    measurement,
    predictions,
)
from movinet_edge.bundle import Bundle, FormatName
from movinet_edge.checkpoints.importer import read_checkpoint
from movinet_edge.checkpoints.native import Checkpoint
from movinet_edge.errors import BadInput, CheckFailed
from movinet_edge.export.ensemble import export_ensemble
from movinet_edge.export.exporter import export
from movinet_edge.export.graph_files import ExportOptions
from movinet_edge.models.registry import default_preprocessing, seeded_model
from movinet_edge.models.slowfast_table import slowfast_arch
from movinet_edge.runtime import Stream
from tests.conftest import BundleFactory

ENGINES: tuple[EngineName, ...] = ("litert", "onnxruntime")
STEPS = 5
SIDE = 64


TFLITE = os.environ.get("MOVINET_EDGE_TFLITE")  # a library with TensorFlow Lite's C API
with_tflite = pytest.mark.skipif(not TFLITE, reason="MOVINET_EDGE_TFLITE names no library")


def options(engine: EngineName, **more: object) -> NativeOptions:
    library = TFLITE if engine == "tflite" else str(engine_library(engine))
    return NativeOptions.model_validate(
        {"engine": engine, "library": library, "steps": STEPS} | more
    )


@pytest.fixture(scope="session")
def fresh(bundles: BundleFactory) -> Path:
    return bundles("movinet-a0-stream", side=SIDE)


@pytest.fixture(scope="session")
def carry(bundles: BundleFactory) -> Path:
    return bundles("movinet-a0-stream", form="carry", side=SIDE, formats=("onnx",))


@pytest.fixture(scope="session")
def clip(bundles: BundleFactory) -> Path:
    """Whole clips, the last of which the golden stream does not fill."""
    return bundles("movinet-a0-base", form="clip", side=SIDE, formats=("onnx",), clip_frames=5)


@pytest.fixture(scope="session")
def delayed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three graphs at two rates that look ahead."""
    arch = slowfast_arch("tiny", classes=7, resolution=32)
    model = Checkpoint(seeded_model(arch), default_preprocessing(arch))
    path = tmp_path_factory.mktemp("native") / "delayed"
    export(model, path, ExportOptions(verify=False))
    return path


@pytest.fixture(scope="session")
def ensemble(members: list[Checkpoint], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two members in turns, whose probabilities are averaged; bytes go in."""
    path = tmp_path_factory.mktemp("native") / "ensemble"
    how = ExportOptions(("onnx",), in_graph_preprocess=True, softmax=True, verify=False)
    export_ensemble(members, path, how)
    return path


def exported_int8(path: Path, motion: Path, fmt: FormatName) -> Path:
    how = ExportOptions((fmt,), precisions=("int8",), calibrate=motion / "train", verify=False)
    export(read_checkpoint(Path("motion-a0-stream")), path, how)
    return path


@pytest.fixture(scope="session")
def int8_onnx(motion: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return exported_int8(tmp_path_factory.mktemp("native") / "int8", motion, "onnx")


@pytest.fixture(scope="session")
def int8_tflite(motion: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return exported_int8(tmp_path_factory.mktemp("native") / "int8", motion, "tflite")


def assert_as_python(prepared: Prepared, result: NativeRun) -> None:
    """The same answers after the same frames, also of those behind the stream's end."""
    bundle, engine = prepared.bundle, prepared.backend.name
    with np.load(bundle.file(bundle.manifest.golden)) as golden:
        frames, reference = golden["frames"], golden["logits"]
    with Stream(bundle, engine, prepared.precision) as stream:
        expected = list(stream.run(frames))
        last = stream.finish()
    got = predictions(bundle, result.answers)
    delay = bundle.manifest.plan.delay
    assert [p.frame for p in got[: len(expected)]] == [p.frame for p in expected]
    assert len(got) == len(expected) + delay
    assert last is not None
    limit = bundle.manifest.thresholds["fp32"].max_error * reference.std()
    for ours, theirs in zip([*got[: len(expected)], got[-1]], [*expected, last], strict=True):
        np.testing.assert_allclose(ours.logits, theirs.logits, atol=limit, rtol=0)


CASES = (
    *(("fresh", "fp32", engine) for engine in ENGINES),
    *(("delayed", "fp32", engine) for engine in ENGINES),
    ("carry", "fp32", "onnxruntime"),
    ("clip", "fp32", "onnxruntime"),
    ("ensemble", "fp32", "onnxruntime"),
    ("int8_onnx", "int8", "onnxruntime"),
    pytest.param("int8_tflite", "int8", "litert", marks=pytest.mark.slow),
    pytest.param("delayed", "fp32", "tflite", marks=with_tflite),
    pytest.param("int8_tflite", "int8", "tflite", marks=[with_tflite, pytest.mark.slow]),
)


@pytest.mark.parametrize(("kind", "precision", "engine"), CASES)
def test_it_answers_as_the_python_runtime(
    request: pytest.FixtureRequest,
    program: Path,
    tmp_path: Path,
    kind: str,
    precision: str,
    engine: EngineName,
) -> None:
    bundle = Bundle(request.getfixturevalue(kind))
    prepared = prepare(bundle, engine, tmp_path / "f", precision)
    result = run(program, prepared.folder, options(engine))
    assert_as_python(prepared, result)
    assert check_parity(prepared, result) < bundle.manifest.thresholds[precision].max_error


def test_the_record_is_that_of_every_runner(program: Path, fresh: Path, tmp_path: Path) -> None:
    prepared = prepare(Bundle(fresh), "litert", tmp_path / "f")
    result = run(program, prepared.folder, options("litert"))
    (graph,) = result.graphs
    assert (graph.delegate, graph.fully_accelerated) == ("xnnpack", True)
    assert result.machine.cores > 0
    written = measurement(prepared, result)
    assert written.method.steps == len(result.step_ms) == STEPS
    assert written.engine_ms.p50 <= written.step_ms.p50
    assert (written.alone.peak_memory_mb or 0) > (written.alone.base_memory_mb or 0) > 0
    assert written.subject.engine_version not in (None, "unknown")
    assert written.subject.files[0].sha256 == prepared.files["step"].sha256


def test_nodes_are_counted_by_who_runs_them(program: Path, fresh: Path, tmp_path: Path) -> None:
    prepared = prepare(Bundle(fresh), "onnxruntime", tmp_path / "f")
    (graph,) = run(program, prepared.folder, options("onnxruntime")).graphs
    assert graph.delegate == "none"
    assert list(graph.nodes) == ["CPUExecutionProvider"]
    assert graph.nodes["CPUExecutionProvider"] > 100


def test_paced_steps_wait_for_their_frames(program: Path, fresh: Path, tmp_path: Path) -> None:
    prepared = prepare(Bundle(fresh), "litert", tmp_path / "f")
    slow = run(program, prepared.folder, options("litert", rate=20, minutes=0.01))
    assert slow.frame_rate == 20
    assert 1 <= len(slow.step_ms) <= 13  # of 0.6 s
    fast = run(program, prepared.folder, options("litert", rate=1e6))
    assert fast.late_steps == STEPS


@with_tflite
def test_the_classic_interpreter_tells_its_partitions(
    program: Path, fresh: Path, tmp_path: Path
) -> None:
    prepared = prepare(Bundle(fresh), "tflite", tmp_path / "f")
    result = run(program, prepared.folder, options("tflite"))
    check_parity(prepared, result)
    (graph,) = result.graphs
    assert (graph.delegate, graph.partitions, graph.fully_accelerated) == ("xnnpack", 1, True)
    assert graph.nodes["xnnpack"] > 100
    for delegate in ("none", "nnapi", "gpu"):
        with pytest.raises(BadInput, match=f"no delegate {delegate} here; it has xnnpack"):
            run(program, prepared.folder, options("tflite", delegate=delegate))


@pytest.mark.parametrize(
    ("engine", "delegate", "there"),
    [
        ("litert", "nnapi", "none, xnnpack"),
        ("onnxruntime", "xnnpack", "none"),
        ("onnxruntime", "nnapi", "none"),
        ("onnxruntime", "gpu", "none"),
    ],
)
def test_an_accelerator_that_is_not_there_is_refused(
    program: Path, fresh: Path, tmp_path: Path, engine: EngineName, delegate: str, there: str
) -> None:
    prepared = prepare(Bundle(fresh), engine, tmp_path / "f")
    with pytest.raises(BadInput, match=f"has no delegate {delegate} here; it has {there}"):
        run(program, prepared.folder, options(engine, delegate=delegate))


def test_builtin_kernels_can_be_asked_for(program: Path, fresh: Path, tmp_path: Path) -> None:
    prepared = prepare(Bundle(fresh), "litert", tmp_path / "f")
    result = run(program, prepared.folder, options("litert", delegate="none"))
    assert result.graphs[0].delegate == "none"
    check_parity(prepared, result)


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("noticed", [True, False], ids=["by its sum", "by the engine"])
def test_a_corrupt_model_is_one_sentence(
    program: Path, fresh: Path, tmp_path: Path, engine: EngineName, noticed: bool
) -> None:
    prepared = prepare(Bundle(fresh), engine, tmp_path / "f")
    model, plan = prepared.folder / prepared.files["step"].path, prepared.folder / PLAN
    data = model.read_bytes()
    cut = data[: len(data) // 2]
    model.write_bytes(cut)
    if not noticed:
        sums = [f"{len(d)} {zlib.crc32(d)}" for d in (data, cut)]
        plan.write_text(plan.read_text().replace(*sums))
    with pytest.raises(BadInput, match=r"damaged|cannot load") as refused:
        run(program, prepared.folder, options(engine))
    assert "\n" not in str(refused.value)


def test_a_folder_is_for_one_engine(program: Path, fresh: Path, tmp_path: Path) -> None:
    prepared = prepare(Bundle(fresh), "litert", tmp_path / "f")
    with pytest.raises(BadInput, match=r"holds \.tflite files"):
        run(program, prepared.folder, options("onnxruntime"))


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (lambda text: text.replace("ring", "thing"), "unknown line 'thing'"),
        (lambda text: text.replace("plan 1", "plan 99"), "of another version"),
        (lambda text: text.replace("classes 600", "classes many"), "damaged at 'classes many'"),
        (lambda text: text.replace("turn 0", "turn 7"), "numbers do not agree"),
        (lambda text: text.replace("float32", "int8"), "another shape or type|do not agree"),
        (lambda text: text.replace("input frame", "input other"), "that the plan lacks"),
    ],
)
def test_a_damaged_plan_is_refused(
    program: Path, fresh: Path, tmp_path: Path, change: Callable[[str], str], sentence: str
) -> None:
    prepared = prepare(Bundle(fresh), "litert", tmp_path / "f")
    plan = prepared.folder / PLAN
    plan.write_text(change(plan.read_text()))
    with pytest.raises(BadInput, match=sentence):
        run(program, prepared.folder, options("litert"))


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        ((), "a prepared folder and --engine are needed"),
        (("f", "--engine", "torch"), "--engine is one of litert, onnxruntime, tflite, not 'torch'"),
        (("f", "--engine"), "--engine needs a value"),
        (("f", "--engine", "litert", "--threads", "0"), "--threads takes a number, not '0'"),
        (("f", "--engine", "litert", "--what", "1"), "there is no option --what"),
        (("nowhere", "--engine", "litert"), "there is no plan.txt in nowhere"),
    ],
)
def test_wrong_words_are_one_sentence(
    program: Path, tmp_path: Path, words: tuple[str, ...], sentence: str
) -> None:
    done = subprocess.run([program, *words], capture_output=True, text=True, cwd=tmp_path)
    assert done.returncode == 2
    assert done.stdout == ""
    assert done.stderr.startswith(f"error: {sentence}")
    assert done.stderr.count("\n") == 1


def test_a_library_that_is_not_there(program: Path, fresh: Path, tmp_path: Path) -> None:
    prepared = prepare(Bundle(fresh), "litert", tmp_path / "f")
    for path, sentence in (
        (tmp_path / "none.so", "library cannot be opened"),
        (engine_library("onnxruntime"), "has no LiteRt"),
    ):
        with pytest.raises(BadInput, match=sentence):
            run(program, prepared.folder, options("litert", library=str(path)))


def test_wrong_numbers_do_not_pass(program: Path, fresh: Path, tmp_path: Path) -> None:
    prepared = prepare(Bundle(fresh), "onnxruntime", tmp_path / "f")
    frames = prepared.folder / "frames.rgb"
    frames.write_bytes(frames.read_bytes()[::-1])
    result = run(program, prepared.folder, options("onnxruntime"))
    with pytest.raises(CheckFailed, match="native onnxruntime fp32 computes wrong numbers"):
        check_parity(prepared, result)


def test_without_a_compiler_it_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(BadInput, match=r"no-such-g\+\+ is not on the path"):
        build(tmp_path, compiler="no-such-g++")
    monkeypatch.setenv("PATH", "")
    with pytest.raises(BadInput, match=r"a C\+\+ compiler is not on the path"):
        build(tmp_path)


def test_a_bundle_without_such_files_is_refused(small_bundle: Path, tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="no fp32 tflite file"):
        prepare(Bundle(small_bundle), "litert", tmp_path / "f")
    assert not (tmp_path / "f").exists()
