"""The PyTorch path: its code on the CPU, which runs all of it but graphs, and on a GPU."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from movinet_edge.benchmarks import cuda
from movinet_edge.benchmarks.cuda import Options, bench
from movinet_edge.benchmarks.record import Report
from movinet_edge.checkpoints.native import Checkpoint, save_checkpoint
from movinet_edge.errors import BadInput, CheckFailed
from movinet_edge.export.ensemble import export_ensemble
from movinet_edge.export.graph_files import ExportOptions
from movinet_edge.models.movinet_table import MoViNetArch
from movinet_edge.models.registry import MODELS
from movinet_edge.models.slowfast_table import slowfast_arch
from tests.commands import Command, Refused
from tests.conftest import BundleFactory, seeded_checkpoint

STEPS = 3
ON_CPU = Options(STEPS, ("eager",), batch=2, frames=4, repeats=2)
no_gpu = pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")


def check_report(report: Report, labels: list[str], batch: int, frames: int) -> None:
    assert [m.subject.label for m in report.measurements] == labels
    for measured in report.measurements:
        assert len(measured.subject.files) == 1
        assert measured.subject.backend == "pytorch"
        assert measured.method.steps == STEPS
        assert measured.method.interleaved
        assert 0 < measured.engine_ms.p50 <= measured.step_ms.p50
        assert measured.clips is not None
        assert (measured.clips.batch, measured.clips.frames) == (batch, frames)
        rate = measured.clips.clips_per_second * measured.clips.batch_ms.p50
        assert rate == pytest.approx(1e3 * batch)
    assert [c.label for c in report.comparisons] == labels


def test_a_checkpoint(checkpoint: Path) -> None:
    report = bench(checkpoint, ON_CPU, device="cpu")
    check_report(report, ["pytorch eager", "pytorch eager bf16"], 2, 4)
    subject = report.measurements[0].subject
    assert (subject.bundle, subject.manifest_sha256) == ("movinet-a0-stream", None)
    assert subject.frames_per_step == 1
    assert subject.state_bytes
    assert report.machine.device == "host"


def test_a_bundle(small_bundle: Path) -> None:
    report = bench(small_bundle, Options(STEPS, ("eager",), ("fp32",), 1, 2, 2), device="cpu")
    check_report(report, ["pytorch eager"], 1, 2)
    assert report.measurements[0].subject.manifest_sha256 is not None


@pytest.mark.parametrize(
    "arch", [MODELS["movinet-a0-base"], slowfast_arch("tiny", classes=7, resolution=32)]
)
def test_what_looks_ahead_takes_whole_clips(arch: MoViNetArch, tmp_path: Path) -> None:
    save_checkpoint(seeded_checkpoint(arch, 32), tmp_path / "m.safetensors")
    report = bench(tmp_path / "m.safetensors", ON_CPU, device="cpu")
    assert report.measurements[0].subject.frames_per_step == arch.clip_frames


@pytest.mark.slow
def test_compiled(checkpoint: Path) -> None:
    options = Options(STEPS, ("eager", "compile"), ("fp32",), 1, 2, 2)
    report = bench(checkpoint, options, device="cpu")
    check_report(report, ["pytorch eager", "pytorch compile"], 1, 2)


@no_gpu
def test_what_cannot_run_is_left_out(checkpoint: Path) -> None:
    """A graph of CUDA where there is none."""
    report = bench(
        checkpoint, Options(STEPS, ("eager", "graphs"), ("fp32",), 1, 2, 2), device="cpu"
    )
    check_report(report, ["pytorch eager"], 1, 2)
    assert report.notes[0].startswith("pytorch graphs was left out: ")
    with pytest.raises(CheckFailed, match="PyTorch runs movinet-a0-stream in no way here"):
        bench(checkpoint, Options(STEPS, ("graphs",)), device="cpu")


def test_wrong_numbers_are_not_timed(checkpoint: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(cuda.LIMITS, "bf16", 1e-9)
    with pytest.raises(CheckFailed, match="pytorch eager bf16 computes wrong numbers"):
        bench(checkpoint, ON_CPU, device="cpu")


@no_gpu
def test_without_a_gpu(refused: Refused, checkpoint: Path, tmp_path: Path) -> None:
    words = ("bench", checkpoint, "--device", "cuda", "--json", tmp_path / "r.json")
    assert refused(*words) == (
        "PyTorch finds no CUDA GPU here; run it where there is one, or leave out --device cuda"
    )
    assert not (tmp_path / "r.json").exists()


def test_wrong_use(refused: Refused, checkpoint: Path) -> None:
    words = ("bench", checkpoint, "--device", "cuda")
    said = refused(*words, "--mode", "paced")
    assert said == "--mode is not for --device cuda; leave it out"
    assert "--engine is not for" in refused(*words, "--engine", "litert")


def test_several_models(members: list[Checkpoint], tmp_path: Path) -> None:
    export_ensemble(members, tmp_path / "e", ExportOptions(("onnx",), verify=False))
    with pytest.raises(BadInput, match="holds several models; name one of their checkpoints"):
        bench(tmp_path / "e", ON_CPU, device="cpu")


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="PyTorch finds no CUDA GPU")
def test_on_a_gpu(bundles: BundleFactory, call: Command, tmp_path: Path) -> None:
    bundle = bundles("movinet-a0-stream", formats=("onnx",))
    where = ("--device", "cuda", "--steps", STEPS, "--json", tmp_path / "r.json")
    code, _, err = call("bench", bundle, *where)
    assert code == 0, err
    report = Report.model_validate_json((tmp_path / "r.json").read_text())
    assert report.notes == ()
    assert report.machine.device == "cuda"
    labels = [m.subject.label for m in report.measurements]
    assert labels == [
        f"pytorch {way}{kind}" for kind in ("", " bf16") for way in ("eager", "compile", "graphs")
    ]
