"""The native step runner on a device."""

from __future__ import annotations

import platform
from collections.abc import Callable
from pathlib import Path

from movinet_edge.benchmarks.device import Device, Done, Facts
from movinet_edge.benchmarks.job import Job, Outcome
from movinet_edge.benchmarks.machine import tool_versions
from movinet_edge.benchmarks.native import NativeOptions, build, engine_library, read_run
from movinet_edge.benchmarks.native_plan import prepare
from movinet_edge.benchmarks.native_record import check_parity, measurement
from movinet_edge.bundle import Bundle
from movinet_edge.errors import BadInput

# Cross compilers by architecture, as Debian calls them.
COMPILERS = {"aarch64": "aarch64-linux-gnu-g++", "armv7l": "arm-linux-gnueabihf-g++"}
FOLDER = "run"


class NativeJob(Job):
    """The runner `program` with the engine's `library`, files here that were built for the device.

    Without a program one is built; without a library ours is taken, where the device has our
    architecture. What is made lies in the folder `work`.

    Raises:
        BadInput: the bundle has no such files, nothing here builds for the device, or the engine
            for it is not here.
    """

    def __init__(
        self,
        facts: Facts,
        bundle: Bundle,
        options: NativeOptions,
        precision: str,
        work: Path,
        program: Path | None,
        library: Path | None,
        say: Callable[[str], None],
    ):
        self.prepared = prepare(bundle, options.engine, work / FOLDER, precision)
        self.program = program or _program(facts, work / "build", say)
        self.library = library or _library(facts, options.engine)
        self.options = options
        sent = sorted(self.prepared.folder.iterdir())
        self.files = [(file, f"{FOLDER}/{file.name}") for file in sent]
        self.files += [(file, file.name) for file in (self.program, self.library)]
        self.patience = options.patience(self.prepared.frames_per_step)

    def command(self, place: str) -> list[str]:
        own = self.options.model_copy(update={"library": f"{place}/{self.library.name}"})
        return [f"{place}/{self.program.name}", f"{place}/{FOLDER}", *own.words()]

    def outcome(self, device: Device, place: str, done: Done) -> Outcome:
        # Some engines do not tell their version; the file that was sent does.
        sent = self.options.model_copy(update={"library": str(self.library)})
        run = read_run(done.code, done.out, done.err, sent)
        check_parity(self.prepared, run)
        measured = measurement(self.prepared, run, self.options.minutes)
        return Outcome(measured, {"movinet-edge": tool_versions()["movinet-edge"]})


def _program(facts: Facts, folder: Path, say: Callable[[str], None]) -> Path:
    """The runner, built for a device.

    Raises:
        BadInput: nothing here builds for it.
    """
    say(f"building the runner for {facts.architecture}")
    if facts.android:
        raise BadInput(
            f"a runner for Android on {facts.abi} needs the NDK; build benchmarks/device with "
            "its CMake toolchain file and name the program with --program"
        )
    if facts.architecture == platform.machine():
        return build(folder)
    compiler = COMPILERS.get(facts.architecture)
    if compiler is None:
        raise BadInput(
            f"no compiler for {facts.architecture} is known; build benchmarks/device for it and "
            "name the program with --program"
        )
    return build(folder, compiler)


def _library(facts: Facts, engine: str) -> Path:
    """The engine, where ours runs on the device.

    Raises:
        BadInput: it does not.
    """
    if facts.android or facts.architecture != platform.machine():
        where = f"Android on {facts.abi}" if facts.android else facts.architecture
        raise BadInput(
            f"{engine} for {where} is not here; take its shared library from the "
            "engine's package for that platform and name it with --library"
        )
    return engine_library(engine)  # type: ignore[arg-type]
