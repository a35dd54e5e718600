"""Devices for ARM64, emulated: real lines and real programs for it, whose times mean nothing."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from movinet_edge.benchmarks.adb import AdbDevice
from movinet_edge.benchmarks.device import Device
from movinet_edge.benchmarks.native import LIBRARIES, EngineName, build, engine_library
from movinet_edge.benchmarks.record import Report
from movinet_edge.benchmarks.ssh import SshDevice
from tests.arm64_machine import PYTHON, Machine
from tests.commands import Command
from tests.conftest import BundleFactory
from tests.device_lab import SERIALS, Room, workspaces

pytestmark = pytest.mark.arm64

STEPS = 2
INDEX_NAMES = {engine: names[2] for engine, names in LIBRARIES.items()}
ENGINES: tuple[EngineName, ...] = ("litert", "onnxruntime")


@pytest.fixture(scope="session")
def bundle(emulation: Machine, bundles: BundleFactory) -> Path:
    return bundles("movinet-a0-stream", side=64)


@pytest.fixture(scope="session")
def program(cross_compiler: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build(tmp_path_factory.mktemp("native"), str(cross_compiler))


def check_facts(device: Device) -> None:
    facts = device.facts()
    assert facts.architecture == device.shell("uname -m").out.strip() == "aarch64"
    assert facts.python is not None
    assert facts.python.startswith(PYTHON)


def left_on(device: Device) -> list[str]:
    return workspaces(device.shell(f"ls {device.home}").out.split())


def bench(call: Command, bundle: Path, device: Device, target: Path, *words: object) -> Report:
    """Measure and look at what is left; the command has checked the parity."""
    where = ("--device", device.name, "--steps", STEPS, "--json", target)
    code, _, err = call("bench", bundle, *where, *words)
    assert code == 0, err
    assert left_on(device) == []
    report = Report.model_validate_json(target.read_text())
    assert (report.machine.device, report.machine.architecture) == (device.name, "aarch64")
    (measured,) = report.measurements
    assert measured.method.steps == STEPS
    return report


@pytest.mark.parametrize("engine", ENGINES)
def test_a_phone(
    arm64_android: Room,
    emulation: Machine,
    program: Path,
    call: Command,
    bundle: Path,
    engine: EngineName,
    tmp_path: Path,
) -> None:
    device = AdbDevice(SERIALS[0])
    check_facts(device)
    assert device.facts().abi == "arm64-v8a"
    library = engine_library(engine, emulation.site)
    words = ("--engine", engine, "--library", library, "--program", program)
    (measured,) = bench(call, bundle, device, tmp_path / "r", *words).measurements
    assert measured.subject.engine == library.name
    assert measured.subject.label == f"native {engine}"


def test_a_board(
    arm64_linux: Room,
    emulation: Machine,
    cross_compiler: Path,
    call: Command,
    bundle: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Its runner is built by the compiler for it that is on the path."""
    monkeypatch.setenv("PATH", os.environ["PATH"] + os.pathsep + str(cross_compiler.parent))
    device = SshDevice("board")
    check_facts(device)
    library = engine_library("litert", emulation.site)
    bench(call, bundle, device, tmp_path / "r", "--engine", "litert", "--library", library)


@pytest.mark.parametrize("engine", ENGINES)
def test_the_python_runner(
    arm64_linux: Room, call: Command, bundle: Path, engine: EngineName, tmp_path: Path
) -> None:
    device = SshDevice("board")
    words = ("--runner", "python", "--engine", engine)
    report = bench(call, bundle, device, tmp_path / "r", *words)
    (measured,) = report.measurements
    assert measured.subject.label == f"python {engine}"
    assert {"numpy", INDEX_NAMES[engine]} <= set(report.tools)
    if engine == "litert":
        assert measured.subject.files[0].fully_accelerated


def test_the_python_runner_on_a_phone(
    arm64_android: Room, call: Command, bundle: Path, tmp_path: Path
) -> None:
    words = ("--runner", "python", "--engine", "onnxruntime")
    bench(call, bundle, AdbDevice(SERIALS[0]), tmp_path / "r", *words)
