"""Profiles: every checker passes files of its own profile and fails those of others."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from movinet_edge.bundle import Bundle, FormatName, Precision, ProfileName
from movinet_edge.checkpoints.importer import read_checkpoint
from movinet_edge.checkpoints.native import Checkpoint
from movinet_edge.data.motion import MotionConfig, make_motion
from movinet_edge.errors import BadInput
from movinet_edge.export import litert_quantize
from movinet_edge.export.exporter import export
from movinet_edge.export.facts import graph_facts
from movinet_edge.export.graph_files import ExportOptions
from movinet_edge.export.litert_graph import LitertGraph
from movinet_edge.export.profile_checks import (
    Row,
    coreml_onnx,
    gpu_tflite,
    nnapi_onnx,
    nnapi_tflite,
)
from movinet_edge.export.profiles import PROFILES, refuse
from movinet_edge.export.step_module import FRAME, StepConfig, StepModule
from movinet_edge.export.verify_record import VerifyRecord
from movinet_edge.models.movinet_table import published_arch
from movinet_edge.models.registry import MODELS, default_preprocessing, deploy_parts, seeded_model
from movinet_edge.streaming.spec import describe
from tests.bundles import edited, lone
from tests.commands import Command, Refused
from tests.conftest import BundleFactory, seeded_checkpoint

SIDE = 64
ACCELERATORS: tuple[ProfileName, ...] = ("nnapi", "gpu", "coreml")
CHECKERS: dict[str, Callable[[Path], list[Row]]] = {
    "nnapi.onnx": nnapi_onnx,
    "nnapi.tflite": nnapi_tflite,
    "gpu.tflite": gpu_tflite,
    "coreml.onnx": coreml_onnx,
}
Made = dict[str, tuple[Path, VerifyRecord]]


def small_checkpoint() -> Checkpoint:
    """A0 at 64 pixels with few classes, so that files are small."""
    model = seeded_model(published_arch("a0", True, classes=7, resolution=SIDE))
    return Checkpoint(model, default_preprocessing(model.arch))


def failed(rows: list[Row]) -> dict[str, str]:
    return {name: detail for name, holds, detail in rows if not holds}


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Made:
    """A bundle and its proof for every accelerator, in all formats that it has."""
    bundles: Made = {}
    for name in ACCELERATORS:
        path = tmp_path_factory.mktemp("profiles") / name
        options = ExportOptions(formats=PROFILES[name].formats, profile=name)
        record = export(small_checkpoint(), path, options)
        assert record is not None
        bundles[name] = path, record
    return bundles


@pytest.fixture(scope="module")
def files(made: Made, bundles: BundleFactory) -> dict[str, Path]:
    """Model files by profile and format."""
    folders = {name: path for name, (path, _) in made.items()}
    folders["cpu"] = bundles("movinet-a0-stream", side=SIDE)
    return {
        f"{name}.{fmt}": folders[name] / f"step.{fmt}"
        for name, profile in PROFILES.items()
        for fmt in profile.formats
    }


@pytest.mark.parametrize("name", ACCELERATORS)
def test_an_export_proves_its_profile(made: Made, name: ProfileName) -> None:
    path, record = made[name]
    assert record.holds, [(c.name, c.detail) for c in record.failures]
    (graph,) = Bundle(path).manifest.graphs
    formats = PROFILES[name].formats
    assert {f.format: f.profile for f in graph.files} == {
        "torch": "cpu",
        **dict.fromkeys(formats, name),
    }
    for fmt in formats:
        rows = CHECKERS[f"{name}.{fmt}"](path / f"step.{fmt}")
        assert not failed(rows)
        checks = {c.name: c for c in record.checks if c.subject == f"step.{fmt}"}
        assert all(checks[row].holds and checks[row].kind == "graph" for row, _, _ in rows)


NO_SWISH = {"NNAPI takes every operator": "HARD_SWISH is of Android API 30, from Android API 29"}
POOLING = "AveragePool with ceil_mode or padding that counts"
EMITTED = {"nothing emitted is used again": "28 of 29, b0_l0_pool_new first"}


@pytest.mark.parametrize(
    ("checker", "file", "wrong"),
    [
        ("nnapi.onnx", "coreml.onnx", {}),
        ("coreml.onnx", "nnapi.onnx", {}),
        ("coreml.onnx", "cpu.onnx", {"Core ML's conditions": POOLING}),
        ("nnapi.tflite", "cpu.tflite", NO_SWISH),
        ("nnapi.tflite", "gpu.tflite", NO_SWISH),
        ("gpu.tflite", "cpu.tflite", EMITTED),
        ("gpu.tflite", "nnapi.tflite", EMITTED),
    ],
)
def test_checkers_fail_on_files_of_other_profiles(
    files: dict[str, Path], checker: str, file: str, wrong: dict[str, str]
) -> None:
    assert failed(CHECKERS[checker](files[file])) == wrong


def test_hard_swish_splits_nnapi_under_onnx_runtime(files: dict[str, Path]) -> None:
    wrong = failed(nnapi_onnx(files["cpu.onnx"]))
    assert wrong["one NNAPI partition"].startswith("59 with 311 of 369 nodes")
    assert wrong["one NNAPI partition"].endswith("not HardSigmoid")
    assert wrong["NNAPI's conditions"] == POOLING


@pytest.mark.parametrize(("fmt", "number"), [("onnx", 2), ("tflite", 1)])
def test_verify_tells_of_a_false_profile(
    bundles: BundleFactory, tmp_path: Path, fmt: FormatName, number: int
) -> None:
    def claim(manifest: dict[str, Any]) -> None:
        for file in manifest["graphs"][0]["files"]:
            if file["format"] == fmt:
                file["profile"] = "nnapi"

    path = edited(bundles("movinet-a0-stream", side=SIDE), tmp_path / "b", claim)
    _, checks, notes = graph_facts(Bundle(path))
    wrong = [check for check in checks if not check.holds]
    assert {check.subject for check in wrong} == {f"step.{fmt}"}
    assert len(wrong) == number
    assert not notes


def test_a_missing_engine_is_noted(made: Made, monkeypatch: pytest.MonkeyPatch) -> None:
    find = importlib.util.find_spec
    absent = lambda name, *a: None if name == "onnxruntime" else find(name, *a)  # noqa: E731
    monkeypatch.setattr(importlib.util, "find_spec", absent)
    _, checks, notes = graph_facts(Bundle(made["coreml"][0]))
    assert all(check.holds for check in checks)
    assert notes == ["step.onnx: no check for coreml, onnxruntime is not installed"]


@pytest.mark.parametrize(
    ("checker", "quantizer", "wrong"),
    [
        ("nnapi.tflite", "half_weights", ""),
        ("nnapi.tflite", "dynamic", ""),
        ("nnapi.tflite", "integer_weights", "DEQUANTIZE computes in floats with weights in 8 bits"),
        ("gpu.tflite", "half_weights", ""),
        ("gpu.tflite", "dynamic", "FULLY_CONNECTED is of INT8"),
        ("gpu.tflite", "integer_weights", "DEQUANTIZE is of INT8"),
    ],
)
def test_weights_that_delegates_take(
    files: dict[str, Path], tmp_path: Path, checker: str, quantizer: str, wrong: str
) -> None:
    target = tmp_path / "smaller.tflite"
    getattr(litert_quantize, quantizer)(files[checker], target)
    details = list(failed(CHECKERS[checker](target)).values())
    assert len(details) == bool(wrong)
    assert all(detail.startswith(wrong) for detail in details)


@pytest.mark.parametrize("checker", ["nnapi.tflite", "gpu.tflite"])
def test_newer_versions_of_operators_are_not_taken(
    files: dict[str, Path], tmp_path: Path, checker: str
) -> None:
    graph = LitertGraph(files[checker])
    record = next(op.record for op in graph.operators if op.kind == "DIV")
    graph.model.operatorCodes[record.opcodeIndex].version = 3
    graph.write(tmp_path / "newer.tflite")
    limit = 1 if checker == "nnapi.tflite" else 2
    (detail,) = failed(CHECKERS[checker](tmp_path / "newer.tflite")).values()
    assert detail.startswith(f"DIV is taken up to version {limit}, not 3")


def test_dense_layers_that_keep_their_rank_are_too_new(
    files: dict[str, Path], tmp_path: Path
) -> None:
    graph = LitertGraph(files["nnapi.tflite"])
    dense = next(op.record for op in graph.operators if op.kind == "FULLY_CONNECTED")
    dense.builtinOptions.keepNumDims = True
    graph.write(tmp_path / "kept.tflite")
    (detail,) = failed(nnapi_tflite(tmp_path / "kept.tflite")).values()
    assert detail.startswith("FULLY_CONNECTED that keeps its rank is of Android API 30")


def test_an_input_must_not_be_emitted(files: dict[str, Path], tmp_path: Path) -> None:
    graph = LitertGraph(files["gpu.tflite"])
    graph.move_output("clock_new", graph.inputs["clock"])
    graph.write(tmp_path / "through.tflite")
    wrong = failed(gpu_tflite(tmp_path / "through.tflite"))
    assert wrong == {"nothing emitted is used again": "1 of 29, clock_new first"}


def test_copies_are_exact() -> None:
    checkpoint = small_checkpoint()
    size = (SIDE, SIDE)
    states = describe(checkpoint.model, size).states
    config = StepConfig("fresh", "NHWC", size)
    (part,) = deploy_parts(checkpoint.model, size)
    body = part.body()
    plain = StepModule(body, lone(states), config).eval()
    copied = StepModule(body, lone(states), replace(config, separate=True)).eval()
    inputs = plain.sample() | {FRAME: torch.rand(1, SIDE, SIDE, 3)}
    with torch.no_grad():
        expected, got = plain(**inputs), copied(**inputs)
    assert list(expected) == list(got)
    for name, value in expected.items():
        assert torch.equal(value, got[name]), name


PROBLEMS: list[tuple[Any, dict[str, Any], str]] = [
    ("gpu", {"formats": ("onnx", "tflite")}, "is LiteRT's, .*; take --format tflite"),
    ("coreml", {"formats": ("onnx", "tflite")}, "is ONNX Runtime's; take --format onnx"),
    ("gpu", {"form": "carry"}, "take --form fresh"),
    *[(name, {"form": "clip"}, "take --form fresh, or --profile cpu") for name in ACCELERATORS],
    *[
        (name, {"in_graph_preprocess": True}, "leave out --in-graph-preprocess")
        for name in ACCELERATORS
    ],
    ("nnapi", {"formats": ("onnx",), "precisions": ("int8",)}, "take --format tflite"),
    ("nnapi", {"formats": ("onnx",), "precisions": ("dynamic",)}, "take --format tflite"),
    ("nnapi", {"precisions": ("fp32", "int8-weights")}, "take --precision fp16"),
    *[
        ("gpu", {"precisions": (precision,)}, "computes in floats, .* take --precision fp16")
        for precision in ("int8-weights", "dynamic", "int8")
    ],
    *[
        ("coreml", {"precisions": (precision,)}, "quantized operators, .* take --precision fp16")
        for precision in ("dynamic", "int8")
    ],
]


@pytest.mark.parametrize(("name", "changes", "sentence"), PROBLEMS)
def test_refusals(name: ProfileName, changes: dict[str, Any], sentence: str) -> None:
    arch = MODELS["movinet-a0-stream"]
    options = ExportOptions(**{"formats": PROFILES[name].formats, "profile": name} | changes)
    with pytest.raises(BadInput, match=f"^--profile {name} .*{sentence}"):
        refuse(arch, options)
    refuse(arch, replace(options, profile="cpu"))


@pytest.mark.parametrize(
    ("name", "formats", "precisions", "form"),
    [
        ("nnapi", ("onnx", "tflite"), ("fp32", "fp16"), "fresh"),
        ("nnapi", ("onnx", "tflite"), ("fp32",), "carry"),
        ("nnapi", ("tflite",), ("int8", "dynamic"), "fresh"),
        ("nnapi", ("onnx",), ("int8-weights",), "fresh"),
        ("gpu", ("tflite",), ("fp32", "fp16"), "fresh"),
        ("coreml", ("onnx",), ("fp32", "fp16", "int8-weights"), "carry"),
    ],
)
def test_what_is_not_refused(
    name: ProfileName,
    formats: tuple[FormatName, ...],
    precisions: tuple[Precision, ...],
    form: Any,
) -> None:
    options = ExportOptions(formats=formats, precisions=precisions, form=form, profile=name)
    refuse(MODELS["movinet-a0-stream"], options)


@pytest.mark.parametrize("name", ["nnapi", "coreml"])
def test_positional_encodings_are_refused(name: ProfileName) -> None:
    arch = MODELS["movinet-a3-stream"]
    options = ExportOptions(formats=PROFILES[name].formats, profile=name)
    with pytest.raises(BadInput, match=r"positional encodings .*; take --profile cpu"):
        refuse(arch, options)
    refuse(arch, ExportOptions(formats=("tflite",), profile="gpu"))


def test_the_command_takes_the_formats_of_the_profile(
    call: Command, refused: Refused, checkpoint: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    code, _, err = call("export", checkpoint, "--out", out, "--profile", "coreml", "--no-verify")
    assert code == 0, err
    (graph,) = Bundle(out).manifest.graphs
    assert [(f.format, f.profile) for f in graph.files] == [("torch", "cpu"), ("onnx", "coreml")]
    words = "--profile", "gpu", "--format", "onnx"
    error = refused("export", checkpoint, "--out", tmp_path / "no", *words)
    assert "--profile gpu is LiteRT's" in error


@pytest.mark.slow
@pytest.mark.parametrize("name", ACCELERATORS)
@pytest.mark.parametrize("model", ["a0", "a1", "a2"])
def test_published_models_at_full_size(model: str, name: ProfileName, tmp_path: Path) -> None:
    options = ExportOptions(
        formats=PROFILES[name].formats, precisions=("fp32", "fp16"), profile=name
    )
    record = export(seeded_checkpoint(MODELS[f"movinet-{model}-stream"]), tmp_path / "b", options)
    assert record is not None
    assert record.holds, [(c.name, c.subject, c.detail) for c in record.failures]
    for facts in record.facts:
        assert facts.max_rank == 4
        assert facts.format == "onnx" or (facts.partitions, facts.transposes) == (1, 0)
    for check in record.checks:
        if check.name.endswith("partition"):
            (one, _, taken, _, nodes, *_) = check.detail.split()
            assert (one, taken) == ("1", nodes)


@pytest.mark.slow
def test_integers_for_nnapi(tmp_path: Path) -> None:
    make_motion(MotionConfig(per_class=10, size=80, seed=5), tmp_path / "videos", jobs=2)
    options = ExportOptions(
        formats=("tflite",),
        precisions=("int8", "dynamic"),
        profile="nnapi",
        calibrate=tmp_path / "videos" / "train",
    )
    record = export(read_checkpoint(Path("motion-a0-stream")), tmp_path / "b", options)
    assert record is not None
    assert record.holds, [(c.name, c.subject, c.detail) for c in record.failures]
    found = {c.subject: c.detail for c in record.checks if c.name == "NNAPI takes every operator"}
    assert found["step.int8.tflite"].endswith("from Android API 30")
    assert found["step.dynamic.tflite"].endswith("from Android API 29")
