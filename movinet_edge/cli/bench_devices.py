"""``movinet-edge bench --device``: the same benchmark on phones and boards."""

from __future__ import annotations

import importlib.util
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, get_args

from movinet_edge.benchmarks.native import EngineName, NativeOptions
from movinet_edge.errors import BadInput

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from movinet_edge.benchmarks.app import AppOptions
    from movinet_edge.benchmarks.record import Report
    from movinet_edge.benchmarks.remote import RemoteOptions

ENGINES = get_args(EngineName)


def remote_options(
    engines: Sequence[str],
    threads: Sequence[int],
    precision: str | None,
    program: Path | None,
    library: Path | None,
    native: Mapping[str, object],
    runner: str = "native",
    python: str | None = None,
    cold: bool = False,
) -> RemoteOptions:
    """What the command line says, as the runner takes it.

    Raises:
        BadInput: more than one engine or thread count, a file that is not there, or what only the
            other runner takes.
    """
    from movinet_edge.benchmarks.python_job import backend_for
    from movinet_edge.benchmarks.remote import RemoteOptions

    own: dict[str, dict[str, object]] = {
        "native": {"--program": program, "--library": library},
        "python": {"--python": python},
    }
    for kind, files in own.items():
        for name, value in files.items():
            if value is not None and kind != runner:
                raise BadInput(f"{name} is for --runner {kind}; add that, or leave it out")
    (engine, *more), (count, *counts) = engines or ENGINES[:1], threads or (1,)
    if more or counts:
        raise BadInput("a device runs one --engine with one --threads at a time; give one of each")
    if engine not in ENGINES:
        raise BadInput(f"devices run {' or '.join(ENGINES)}, not {engine!r}; change --engine")
    for file in (program, library):
        if file is not None and not file.is_file():
            raise BadInput(f"there is no file {file} to send to the device")
    given = {name: value for name, value in native.items() if value is not None}
    options = NativeOptions.model_validate({"engine": engine, "threads": count} | given)
    if runner == "python":
        backend_for(options)
    return RemoteOptions(
        options, precision or "fp32", program, library, runner, python or "python3", cold
    )


def app_options(
    device: str,
    engines: Sequence[str],
    threads: Sequence[int],
    precision: str | None,
    mode: str,
    native: Mapping[str, object],
    apk: Path | None,
    clean: bool,
    others: Mapping[str, object],
) -> AppOptions:
    """What the command line says, as the Android app takes it; `others` are for other runners.

    Raises:
        BadInput: no Android device, a mode that the app lacks, more than one engine or thread
            count, a file that is not there.
    """
    from movinet_edge.benchmarks.app import ENGINES, AppOptions

    if not device.startswith("adb:"):
        raise BadInput(f"--app is for Android; give --device adb:SERIAL, not {device}")
    for name, value in others.items():
        if value is not None:
            raise BadInput(f"{name} is not for --app; leave one of them out")
    if mode == "cold":
        raise BadInput("--app starts once; leave out --mode cold, the report has the first step")
    (engine, *more), (count, *counts) = engines or ENGINES[:1], threads or (1,)
    if more or counts:
        raise BadInput("the app runs one --engine with one --threads at a time; give one of each")
    if engine not in ENGINES:
        raise BadInput(f"the app runs {' or '.join(ENGINES)}, not {engine!r}; change --engine")
    if apk is not None and not apk.is_file():
        raise BadInput(f"there is no file {apk} to install; build one with make android")
    given = {name: value for name, value in native.items() if value is not None}
    run = NativeOptions.model_validate({"engine": engine, "threads": count} | given)
    return AppOptions(run, precision, mode, apk, clean)


def bench_cuda(
    path: Path, steps: int | None, target: Path | None, others: Mapping[str, object]
) -> Report:
    """Measure the PyTorch path on the GPU and write the report.

    Raises:
        BadInput: no PyTorch, no GPU, no such model, or an option that is not for the GPU.
        CheckFailed: it computes wrong numbers.
    """
    from movinet_edge.benchmarks.output import report_file
    from movinet_edge.cli.console import progress

    for name, value in others.items():
        if value:
            raise BadInput(f"{name} is not for --device cuda; leave it out")
    if importlib.util.find_spec("torch") is None:
        raise BadInput("--device cuda needs PyTorch; pip install 'movinet-edge[export]'")
    from movinet_edge.benchmarks.cuda import Options, bench

    options = Options() if steps is None else Options(steps)
    with ExitStack() as stack:
        write = stack.enter_context(report_file(target)) if target else None
        with progress("bench") as say:
            found = bench(path, options, say)
        if write is not None:
            write(found)
    return found


def bench_devices(
    name: str, path: Path, options: RemoteOptions | AppOptions, target: Path | None
) -> tuple[list[Report], list[str]]:
    """Measure on all devices of a name and write their reports; also what went wrong where.

    With several, each device's report is a file of its own: ``FILE-SERIAL.json``.

    Raises:
        BadInput: no such device, or the only one cannot run the bundle.
        CheckFailed: the only one computes wrong numbers, or was lost.
    """
    from movinet_edge.benchmarks.devices import remote_devices
    from movinet_edge.benchmarks.output import report_file
    from movinet_edge.benchmarks.remote import bench_all
    from movinet_edge.bundle import Bundle
    from movinet_edge.cli.console import progress

    bundle, devices = Bundle(path), remote_devices(name)
    if target is not None:  # a benchmark takes minutes: whether they can be written shows first
        for device in devices:
            with report_file(_place(target, device.name, len(devices))):
                pass
    with progress("bench") as say:
        reports, failures = bench_all(devices, bundle, options, say)
    for report in reports if target is not None else ():
        assert target is not None
        with report_file(_place(target, report.machine.device, len(devices))) as write:
            write(report)
    return reports, failures


def _place(target: Path, device: str, devices: int) -> Path:
    own = device.partition(":")[2].replace(":", "-").replace("@", "-")
    return target if devices == 1 else target.with_stem(f"{target.stem}-{own}")
