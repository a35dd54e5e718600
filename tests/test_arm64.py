"""Bundles compute the same numbers on ARM64 cores, emulated: their times there mean nothing."""

from __future__ import annotations

from pathlib import Path

import pytest

from movinet_edge.data.motion import MotionConfig, make_motion
from movinet_edge.export.precision import PRECISIONS
from movinet_edge.export.verify_record import VerifyRecord
from tests.arm64_machine import Machine, prepare
from tests.commands import movinet_edge
from tests.debian import Unavailable

pytestmark = pytest.mark.arm64

ENGINES = ("litert", "onnxruntime")  # litert-interpreter runs the kernels of litert

# What engines choose their kernels by, beside the core's own number.
DOT = frozenset({"asimdhp", "asimddp"})
MATRIX = DOT | {"i8mm", "bf16", "sve2"}
CORES = {"cortex-a55": DOT, "cortex-a76": DOT, "cortex-a710": MATRIX}


@pytest.fixture(scope="session")
def bundle(machine: Machine, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The trained checkpoint in every precision; `machine` comes first, as it may skip."""
    folder = tmp_path_factory.mktemp("arm64")
    make_motion(MotionConfig(per_class=5, size=80), folder / "videos", jobs=1)
    chosen = [word for precision in PRECISIONS for word in ("--precision", precision)]
    words = ("--calibrate", folder / "videos", "--no-verify", "--out", folder / "bundle")
    done = movinet_edge("export", "motion-a0-stream", *chosen, *words)
    assert done.returncode == 0, done.stderr
    return folder / "bundle"


@pytest.mark.parametrize("core", CORES)
def test_core_has_its_instructions(machine: Machine, core: str) -> None:
    done = machine.python(core, "-c", "print(open('/proc/cpuinfo').read())")
    assert set(done.stdout.split()) & MATRIX == CORES[core], done.stderr


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("core", CORES)
def test_parity_holds(
    machine: Machine, bundle: Path, core: str, engine: str, tmp_path: Path
) -> None:
    file = tmp_path / "parity.json"
    # The properties are those of a file; once is enough for them, and emulated they take minutes.
    how = "--properties" if (core, engine) == ("cortex-a76", "litert") else "--no-properties"
    words = ("verify", bundle, "--backend", engine, "--json", file, how)
    done = machine.python(core, "-m", "movinet_edge", *words)
    assert done.returncode == 0, done.stdout + done.stderr
    record = VerifyRecord.model_validate_json(file.read_bytes())
    assert {stream.precision for stream in record.streams} == set(PRECISIONS)
    # Only with the engine's help are these known: XNNPACK took the graph on this core, too.
    assert all(fact.partitions for fact in record.facts if fact.format == "tflite")


def test_without_debian_it_says_what_is_missing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", "")
    with pytest.raises(Unavailable, match=r"^Debian's dpkg is needed$"):
        prepare(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["lock"]
