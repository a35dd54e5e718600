"""The benchmark on a device at the other end of a line: prepare, push, run, check, clean up."""

from __future__ import annotations

import datetime
import platform
import tempfile
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from movinet_edge.benchmarks.device import Device, DeviceLost, DeviceSilent, Facts
from movinet_edge.benchmarks.machine import tool_versions
from movinet_edge.benchmarks.native import NativeOptions, build, engine_library, read_run
from movinet_edge.benchmarks.native_plan import Prepared, prepare
from movinet_edge.benchmarks.native_record import NativeRun, check_parity, measurement
from movinet_edge.benchmarks.record import Report
from movinet_edge.bundle import Bundle
from movinet_edge.errors import BadInput, CheckFailed

Say = Callable[[str], None]

# A line that breaks once may hold the second time; one that breaks twice is reported.
TRIES = 2
# Cross compilers by architecture, as Debian calls them.
COMPILERS = {"aarch64": "aarch64-linux-gnu-g++", "armv7l": "arm-linux-gnueabihf-g++"}


@dataclass(frozen=True)
class RemoteOptions:
    """What to run there. `program` and `library` are files here, built for the device.

    Without a program one is built; without a library ours is taken, where the device has our
    architecture.
    """

    native: NativeOptions
    precision: str = "fp32"
    program: Path | None = None
    library: Path | None = None


def bench_remote(
    device: Device,
    bundle: Bundle,
    options: RemoteOptions,
    say: Say = lambda _: None,
    stop: threading.Event | None = None,
) -> Report:
    """Measure a bundle on a device, with its golden stream as proof.

    Once `stop` is set, nothing is tried again.

    Raises:
        BadInput: the device cannot run it, or has no room.
        CheckFailed: it computes wrong numbers, or was lost twice.
    """
    engine, stop = options.native.engine, stop or threading.Event()
    with tempfile.TemporaryDirectory() as work:
        say(f"{device.name}: asking what it is")
        facts = device.facts()
        prepared = prepare(bundle, engine, Path(work) / "run", options.precision)
        program = options.program or _program(facts, Path(work) / "build", say)
        library = options.library or _library(facts, engine)
        for attempt in range(1, TRIES + 1):
            try:
                run = _once(device, prepared, program, library, options.native, say)
                break
            except DeviceLost as error:
                if attempt == TRIES or isinstance(error, DeviceSilent) or stop.is_set():
                    left = f"; {device.left[-1]} may be left on it" if device.left else ""
                    raise DeviceLost(f"{error}{left}") from None
                say(f"{error}: once more")
        check_parity(prepared, run)
        return Report(
            date=datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
            machine=facts.machine(device.name),
            tools={"movinet-edge": tool_versions()["movinet-edge"]},
            seed=0,
            measurements=(measurement(prepared, run, options.native.minutes),),
            comparisons=(),
        )


def bench_all(
    devices: Sequence[Device], bundle: Bundle, options: RemoteOptions, say: Say = lambda _: None
) -> tuple[list[Report], list[str]]:
    """Measure on several devices at the same time; reports, and what went wrong where.

    Raises:
        BadInput, CheckFailed: the only device failed.
    """
    if len(devices) == 1:
        return [bench_remote(devices[0], bundle, options, say)], []

    stop = threading.Event()

    def one(device: Device) -> Report | str:
        try:
            return bench_remote(device, bundle, options, say, stop)
        except (BadInput, CheckFailed) as error:
            return str(error)

    with ThreadPoolExecutor(len(devices)) as pool:
        try:
            found = list(pool.map(one, devices))
        except BaseException:  # Ctrl-C ends what runs on the devices, too: not again, then
            stop.set()
            raise
    reports = [f for f in found if isinstance(f, Report)]
    return reports, [f for f in found if isinstance(f, str)]


def _once(
    device: Device,
    prepared: Prepared,
    program: Path,
    library: Path,
    options: NativeOptions,
    say: Say,
) -> NativeRun:
    with device.workspace() as place:
        run = f"{place}/run"
        device.run(["mkdir", run])
        files = [(file, f"{run}/{file.name}") for file in sorted(prepared.folder.iterdir())]
        files += [(file, f"{place}/{file.name}") for file in (program, library)]
        for file, there in files:
            say(f"{device.name}: sending {file.name}")
            device.push(file, there)
        device.run(["chmod", "755", f"{place}/{program.name}"])
        say(f"{device.name}: running")
        own = options.model_copy(update={"library": f"{place}/{library.name}"})
        command = [f"{place}/{program.name}", run, *own.words()]
        done = device.run(command, options.patience(prepared.frames_per_step))
        # Some engines do not tell their version; the file that was sent does.
        sent = options.model_copy(update={"library": str(library)})
        return read_run(done.code, done.out, done.err, sent)


def _program(facts: Facts, folder: Path, say: Say) -> Path:
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
