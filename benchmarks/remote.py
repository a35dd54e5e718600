"""The benchmark on a device at the other end of a line: prepare, push, run, check, clean up."""

from __future__ import annotations

import shlex
import tempfile
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from movinet_edge.benchmarks.app import AppOptions, bench_app
from movinet_edge.benchmarks.device import Device, DeviceLost, DeviceSilent, Facts
from movinet_edge.benchmarks.job import COLD_PROCESSES, Job, Outcome, with_cold_starts
from movinet_edge.benchmarks.native import NativeOptions
from movinet_edge.benchmarks.native_job import NativeJob
from movinet_edge.benchmarks.python_job import PythonJob
from movinet_edge.benchmarks.record import Report
from movinet_edge.benchmarks.reports import report
from movinet_edge.bundle import Bundle
from movinet_edge.errors import BadInput, CheckFailed

Say = Callable[[str], None]

# A line that breaks once may hold the second time; one that breaks twice is reported.
TRIES = 2


@dataclass(frozen=True)
class RemoteOptions:
    """What to run there; see `NativeJob` and `PythonJob`. `cold`: start it again and again."""

    native: NativeOptions
    precision: str = "fp32"
    program: Path | None = None
    library: Path | None = None
    runner: str = "native"
    python: str = "python3"
    cold: bool = False


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
    stop = stop or threading.Event()
    with tempfile.TemporaryDirectory() as work:
        say(f"{device.name}: asking what it is")
        facts = device.facts()
        job = _job(facts, device, bundle, options, Path(work), say)
        for attempt in range(1, TRIES + 1):
            try:
                outcome = _once(device, job, options.cold, say)
                break
            except DeviceLost as error:
                if attempt == TRIES or isinstance(error, DeviceSilent) or stop.is_set():
                    left = f"; {device.left[-1]} may be left on it" if device.left else ""
                    raise DeviceLost(f"{error}{left}") from None
                say(f"{error}: once more")
        machine = facts.machine(device.name)
        return report(machine, [outcome.measurement], tools=outcome.tools)


def bench_all(
    devices: Sequence[Device],
    bundle: Bundle,
    options: RemoteOptions | AppOptions,
    say: Say = lambda _: None,
) -> tuple[list[Report], list[str]]:
    """Measure on several devices at the same time; reports, and what went wrong where.

    Raises:
        BadInput, CheckFailed: the only device failed.
    """
    stop = threading.Event()

    def measure(device: Device) -> Report:
        if isinstance(options, AppOptions):
            return bench_app(device, bundle, options, say)
        return bench_remote(device, bundle, options, say, stop)

    if len(devices) == 1:
        return [measure(devices[0])], []

    def one(device: Device) -> Report | str:
        try:
            return measure(device)
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


def _once(device: Device, job: Job, cold: bool, say: Say) -> Outcome:
    with device.workspace() as place:
        folders = {str(PurePosixPath(place, there).parent) for _, there in job.files}
        device.run(["mkdir", "-p", *sorted(folders)])
        for file, there in job.files:
            say(f"{device.name}: sending {file.name}")
            device.push(file, f"{place}/{there}")
        device.run(["chmod", "-R", "755", place])
        # From there, so that what runs on can be told by its folder, and ended.
        command = f"cd {shlex.quote(place)} && exec {shlex.join(job.command(place))}"
        outcomes = []
        for number in range(COLD_PROCESSES if cold else 1):
            say(f"{device.name}: running" + (f" for the {number + 1}. time" if number else ""))
            outcomes.append(job.outcome(device, place, device.shell(command, job.patience)))
        return with_cold_starts(outcomes) if cold else outcomes[0]


def _job(
    facts: Facts, device: Device, bundle: Bundle, options: RemoteOptions, work: Path, say: Say
) -> Job:
    if options.runner == "python":
        return PythonJob(device, bundle, options.native, options.precision, work, options.python)
    files = options.program, options.library
    return NativeJob(facts, bundle, options.native, options.precision, work, *files, say)
