"""The native step runner on ARM64 cores, emulated: its numbers count, its times mean nothing."""

from __future__ import annotations

from pathlib import Path

import pytest

from movinet_edge.benchmarks.native import EngineName, NativeOptions, build, engine_library, run
from movinet_edge.benchmarks.native_plan import prepare
from movinet_edge.benchmarks.native_record import check_parity
from movinet_edge.bundle import Bundle
from movinet_edge.errors import BadInput
from tests.arm64_machine import Machine
from tests.conftest import BundleFactory

pytestmark = pytest.mark.arm64

CORES = ("cortex-a55", "cortex-a76")


@pytest.fixture(scope="module")
def program(
    machine: Machine, cross_compiler: Path, tmp_path_factory: pytest.TempPathFactory
) -> Path:
    return build(tmp_path_factory.mktemp("native"), str(cross_compiler))


@pytest.fixture(scope="module")
def bundle(program: Path, bundles: BundleFactory) -> Bundle:
    return Bundle(bundles("movinet-a0-stream", side=64))


@pytest.mark.parametrize("engine", ["litert", "onnxruntime"])
@pytest.mark.parametrize("core", CORES)
def test_parity_holds(
    machine: Machine,
    program: Path,
    bundle: Bundle,
    core: str,
    engine: EngineName,
    tmp_path: Path,
) -> None:
    prepared = prepare(bundle, engine, tmp_path / "f")
    library = engine_library(engine, machine.site)
    options = NativeOptions(engine=engine, library=str(library), steps=2)
    result = run(program, prepared.folder, options, machine.emulator(core))
    check_parity(prepared, result)
    assert result.machine.architecture == "aarch64"
    assert len(result.step_ms) == 2
    if engine == "litert":
        assert result.graphs[0].fully_accelerated


def test_an_accelerator_that_is_not_there_is_refused(
    machine: Machine, program: Path, bundle: Bundle, tmp_path: Path
) -> None:
    prepared = prepare(bundle, "litert", tmp_path / "f")
    library = engine_library("litert", machine.site)
    options = NativeOptions(engine="litert", library=str(library), delegate="nnapi")
    with pytest.raises(BadInput, match="has no delegate nnapi here; it has none, xnnpack"):
        run(program, prepared.folder, options, machine.emulator(CORES[0]))
