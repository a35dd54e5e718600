"""The cheapest int8 within a drop of accuracy, and the report of where int8 loses."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from movinet_edge.bundle import Bundle, ModelFile, Precision
from movinet_edge.checkpoints.importer import read_checkpoint
from movinet_edge.checkpoints.native import Checkpoint, save_checkpoint
from movinet_edge.errors import BadInput
from movinet_edge.export.graph_files import ExportOptions
from movinet_edge.export.sensitivity import SensitivityReport
from movinet_edge.export.target_drop import Judge, cheapest
from movinet_edge.models.registry import MODELS, build, default_preprocessing
from tests.commands import Command, Refused
from tests.stretched import stretch

SHIPPED = Path("motion-a0-stream")
SITES = ("blocks.b0_l0.expand", "blocks.b1_l1.spatial", "blocks.b2_l1.temporal")


@pytest.fixture(scope="module")
def stretched(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The shipped checkpoint, nearly the same in floats, collapsing in plain int8."""
    held = read_checkpoint(SHIPPED)
    path = tmp_path_factory.mktemp("stretched") / "stretched.safetensors"
    model = stretch(held.model, SITES, 1000.0, channels=4)
    save_checkpoint(Checkpoint(model, held.preprocessing, held.labels), path)
    return path


def integers(bundle: Bundle) -> ModelFile:
    (graph,) = bundle.manifest.graphs
    return next(file for file in graph.files if file.precision == "int8")


@pytest.mark.parametrize(
    "cured", [False, pytest.param(True, marks=pytest.mark.slow)], ids=["shipped", "stretched"]
)
def test_the_command_finds_what_keeps_accuracy(
    call: Command, stretched: Path, motion: Path, tmp_path: Path, cured: bool
) -> None:
    words = "--format", "onnx", "--precision", "int8", "--calibrate", motion, "--no-verify"
    source = stretched if cured else SHIPPED
    code, out, err = call("export", source, "--out", tmp_path / "b", *words, "--target-drop", 1)
    assert code == 0, err
    assert "trying int8 with no hard-swishes equalised, nothing left in floats" in err
    assert "int8 loses 0.00 points of top-1 on 12 videos" in out
    calibration = integers(Bundle(tmp_path / "b")).calibration
    assert calibration is not None
    assert bool(calibration.equalised or calibration.keep_float) == cured
    assert calibration.videos <= 84  # of the training split alone


def judge_that_wants(sites: int, tried: list[int]) -> Judge:
    """Accuracy that is right once so many sites are equalised, or blocks are float.

    Takes down how many were equalised.
    """

    def judge(bundle: Bundle, backend: str, precision: Precision) -> float:
        if precision == "fp32":
            return 0.9
        calibration = integers(bundle).calibration
        assert calibration is not None
        tried.append(len(calibration.equalised))
        right = len(calibration.equalised) >= sites or calibration.keep_float
        return 0.9 if right else 0.5

    return judge


@pytest.fixture(scope="module")
def options(motion: Path) -> ExportOptions:
    return ExportOptions(
        formats=("onnx",), precisions=("int8",), calibrate=motion / "train", calibration_frames=100
    )


def test_nothing_is_done_where_plain_int8_will_do(options: ExportOptions) -> None:
    tried: list[int] = []
    found = cheapest(read_checkpoint(SHIPPED), options, 1.0, judge_that_wants(0, tried))
    assert tried == [0]
    assert str(found.policy) == "no hard-swishes equalised, nothing left in floats"
    assert found.applied(options).equalise == {}


@pytest.mark.slow
def test_no_more_is_done_than_is_needed(options: ExportOptions, stretched: Path) -> None:
    tried: list[int] = []
    found = cheapest(read_checkpoint(stretched), options, 1.0, judge_that_wants(3, tried))
    assert len(found.policy.equalise) == 4  # 1, 2, 4, ...
    assert found.policy.keep_float == ()
    assert 2 in tried
    assert len(tried) < 8
    assert set(found.applied(options).equalise or ()) == set(found.policy.equalise)


def test_what_cannot_be_reached_is_said(options: ExportOptions) -> None:
    def hopeless(bundle: Bundle, backend: str, precision: Precision) -> float:
        return 0.9 if precision == "fp32" else 0.5

    with pytest.raises(BadInput, match=r"^int8 loses 40.0 points even with .*train --qat, or take"):
        cheapest(read_checkpoint(SHIPPED), options, 1.0, hopeless)


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["--precision", "int8"], "--target-drop needs videos with their classes"),
        (["--calibrate", "{motion}"], "--target-drop is for --precision int8 with --calibrate"),
        (
            ["--precision", "int8", "--calibrate", "{loose}"],
            "has no class folders; put its videos into a folder per class",
        ),
    ],
)
def test_what_a_drop_needs(
    refused: Refused, motion: Path, tmp_path: Path, words: list[str], sentence: str
) -> None:
    loose = tmp_path / "loose"
    loose.mkdir()
    (loose / "x.mp4").symlink_to(next(motion.rglob("*.mp4")))
    given = [word.format(motion=motion, loose=loose) for word in words]
    error = refused("export", SHIPPED, "--out", tmp_path / "o", "--target-drop", "1", *given)
    assert sentence in error
    assert not (tmp_path / "o").exists()


@pytest.mark.parametrize("times", [False, pytest.param(True, marks=pytest.mark.slow)])
def test_the_report_of_a_checkpoint(
    call: Command, stretched: Path, motion: Path, tmp_path: Path, times: bool
) -> None:
    file = tmp_path / "report.json"
    words = "--calibrate", motion, "--calibration-frames", 100, "--json", file
    code, out, err = call("sensitivity", stretched, *words, "--times" if times else "--no-times")
    assert code == 0, err
    report = SensitivityReport.model_validate(json.loads(file.read_bytes()))
    assert all((part.cost_ms is not None) == times for part in (*report.blocks, *report.sites))
    assert ("measured on this machine" in out) == times
    worst = max(report.sites, key=lambda site: site.loss_db or 0)
    assert worst.name in SITES
    assert worst.name in out
    assert all(block.name in out for block in report.blocks)
    assert "export --precision int8 would have" in out


def test_what_has_no_int8_has_no_report(refused: Refused, motion: Path, tmp_path: Path) -> None:
    arch = MODELS["movinet-a0-base"]
    path = tmp_path / "base.safetensors"
    save_checkpoint(Checkpoint(build(arch), default_preprocessing(arch)), path)
    error = refused("sensitivity", path, "--calibrate", motion)
    assert error == "int8 is for streams, and movinet-a0-base sees whole clips; take dynamic"
