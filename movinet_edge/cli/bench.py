"""``movinet-edge bench``: what a step costs here, and against what else."""

from __future__ import annotations

from contextlib import ExitStack
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from movinet_edge.cli.options import HeldPrecision
from movinet_edge.errors import BadInput, CheckFailed

if TYPE_CHECKING:
    from movinet_edge.benchmarks.app import AppOptions
    from movinet_edge.benchmarks.host import Options
    from movinet_edge.benchmarks.modes import Mode
    from movinet_edge.benchmarks.record import Report
    from movinet_edge.benchmarks.remote import RemoteOptions

MAX_SLOWDOWN = 1.15


class ModeName(StrEnum):
    back_to_back = "back-to-back"
    paced = "paced"
    sustained = "sustained"
    cold = "cold"


class Delegate(StrEnum):
    none = "none"
    xnnpack = "xnnpack"
    nnapi = "nnapi"
    gpu = "gpu"


class Runner(StrEnum):
    native = "native"
    python = "python"


def bench(
    path: Annotated[
        Path, typer.Argument(metavar="BUNDLE", help="Directory or .zip; on cuda also a checkpoint.")
    ],
    device: Annotated[
        str,
        typer.Option(
            help="host, cuda, adb:SERIAL, adb:all or ssh:USER@HOST; see movinet-edge devices."
        ),
    ] = "host",
    backend: Annotated[
        list[str] | None,
        typer.Option(
            "--backend",
            "--engine",
            help="Repeatable on host; default: every installed one but torch. On a device one of "
            "litert (the default), onnxruntime and tflite.",
        ),
    ] = None,
    precision: HeldPrecision = None,
    delegate: Annotated[
        Delegate | None,
        typer.Option(
            help="Of a device's engine; default: xnnpack, of onnxruntime none. What is not there "
            "is an error.",
            show_default=False,
        ),
    ] = None,
    threads: Annotated[
        list[int] | None, typer.Option(min=1, help="CPU threads; repeatable; default: 1.")
    ] = None,
    steps: Annotated[
        int | None,
        typer.Option(min=1, help="Default: 200; paced 5 seconds' worth; cold 10 starts."),
    ] = None,
    mode: Annotated[
        ModeName | None,
        typer.Option(
            help="Steps back to back (the default), paced at the camera's rate, sustained for "
            "--minutes, or cold: load and first step in a fresh process each time.",
            show_default=False,
        ),
    ] = None,
    minutes: Annotated[
        float | None,
        typer.Option(
            min=0.001,
            help="How long a sustained run (default: 10) or a paced one goes on, with the "
            "temperature.",
            show_default=False,
        ),
    ] = None,
    runner: Annotated[
        Runner | None,
        typer.Option(
            help="Of a device: the native step runner (the default), or this runtime by the "
            "device's own Python.",
            show_default=False,
        ),
    ] = None,
    python: Annotated[
        str | None,
        typer.Option(
            metavar="PROGRAM", help="Of --runner python; default: python3.", show_default=False
        ),
    ] = None,
    app: Annotated[
        bool,
        typer.Option("--app", help="On adb:SERIAL: in the Android app (android_demo)."),
    ] = False,
    apk: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="Of --app: install it if another one or none is there.",
            show_default=False,
        ),
    ] = None,
    clean: Annotated[
        bool, typer.Option("--clean", help="Of --app: uninstall it at the end.")
    ] = False,
    program: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="The step runner (benchmarks/device) built for the device; default: built here.",
            show_default=False,
        ),
    ] = None,
    library: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="The engine's shared library for the device; default: ours, on our architecture.",
            show_default=False,
        ),
    ] = None,
    against: Annotated[
        list[Path] | None,
        typer.Option(metavar="FILE", help="A streaming .tflite or .onnx, or a bundle; repeatable."),
    ] = None,
    peers: Annotated[
        bool,
        typer.Option(
            "--peers", help="Compare with every other engine installed here, on the same weights."
        ),
    ] = False,
    baseline: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="An earlier report: fail where anything is slower by more than --max-slowdown.",
            show_default=False,
        ),
    ] = None,
    max_slowdown: Annotated[
        float | None,
        typer.Option(
            min=0,
            help="In units of a matrix product timed in the same run, on devices of ms; default: "
            "1.15.",
            show_default=False,
        ),
    ] = None,
    json_file: Annotated[
        Path | None, typer.Option("--json", metavar="FILE", help="Write the report.")
    ] = None,
    costs: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="Of a bundle that decides: time each of its networks instead, and write what "
            "train --set costs=FILE and export --costs take.",
            show_default=False,
        ),
    ] = None,
) -> None:
    """Check a bundle's backends, then time them in turn; here or on a device."""
    from movinet_edge.benchmarks import host
    from movinet_edge.benchmarks.baseline import read_report
    from movinet_edge.cli.bench_devices import (
        app_options,
        bench_cuda,
        bench_devices,
        remote_options,
    )

    if costs is not None:
        if device != "host" or against or mode is not None or baseline or json_file:
            raise BadInput("--costs times networks alone, on the host; leave out other options")
        _write_costs(costs, path, backend, precision and precision.value, threads, steps)
        return
    if (apk is not None or clean) and not app:
        raise BadInput("--apk and --clean are for --app; add that, or leave them out")
    if app and device in ("host", "cuda"):
        raise BadInput(f"--app is for Android; give --device adb:SERIAL, not {device}")
    if max_slowdown is not None and baseline is None:
        raise BadInput("--max-slowdown needs a --baseline to compare with")
    before = None if baseline is None else read_report(baseline)
    usual = ModeName.back_to_back if minutes is None else ModeName.sustained
    pace: Mode = (mode or usual).value
    failures: list[str] = []
    if device == "cuda":
        unused: dict[str, object] = {"--engine": backend, "--precision": precision}
        unused |= {"--delegate": delegate, "--threads": threads, "--mode": mode}
        unused |= {"--minutes": minutes, "--runner": runner, "--python": python}
        unused |= {"--program": program, "--library": library}
        unused |= {"--against": against, "--peers": peers}
        reports = [bench_cuda(path, steps, json_file, unused)]
    elif device == "host":
        there: dict[str, object] = {"--delegate": delegate, "--precision": precision}
        there |= {"--program": program, "--library": library}
        there |= {"--runner": runner, "--python": python}
        for name, value in there.items():
            if value is not None:
                raise BadInput(f"{name} is for devices; add --device, or leave it out")
        compared = against or (), peers
        how = host.Options(backend or (), threads or (1,), steps, pace, minutes, *compared)
        reports = [_on_host(path, how, json_file)]
    else:
        if against or peers:
            raise BadInput("peers are compared on the host; leave out --against and --peers")
        named, chosen = precision and precision.value, delegate and delegate.value
        native = {"delegate": chosen, **_device_pace(path, pace, steps, minutes)}
        what = backend or (), threads or (), named
        if app:
            others: dict[str, object] = {"--runner": runner, "--python": python}
            others |= {"--program": program, "--library": library}
            options: AppOptions | RemoteOptions = app_options(
                device, *what, pace, native, apk, clean, others
            )
        else:
            ran_by = (runner or Runner.native).value, python, pace == "cold"
            options = remote_options(*what, program, library, native, *ran_by)
        reports, failures = bench_devices(device, path, options, json_file)
    for report in reports:
        _show(report)
        if before is not None:
            limit = MAX_SLOWDOWN if max_slowdown is None else max_slowdown
            failures += _compared(report, before, limit)
    if failures:
        raise CheckFailed("; ".join(failures))


def _on_host(path: Path, options: Options, json_file: Path | None) -> Report:
    from movinet_edge.benchmarks import host, output
    from movinet_edge.cli.console import progress

    with ExitStack() as stack:
        write = stack.enter_context(output.report_file(json_file)) if json_file else None
        with progress("bench") as say:
            report = host.bench(path, options, say)
        if write is not None:
            write(report)
    return report


def _device_pace(
    path: Path, mode: Mode, steps: int | None, minutes: float | None
) -> dict[str, float | None]:
    """A mode in the words of the native runner.

    Raises:
        BadInput: the numbers do not go together.
    """
    from movinet_edge.benchmarks.modes import COLD_PROCESSES, PACED_STEPS, Schedule
    from movinet_edge.bundle import Bundle

    if mode == "cold":
        if steps is not None:
            raise BadInput(f"a device starts {COLD_PROCESSES} times; leave out --steps")
        steps = PACED_STEPS  # whatever it costs, it is not what was asked for
    rate = Bundle(path).manifest.preprocessing.frame_rate
    schedule = Schedule(mode, steps, minutes, frame_rate=rate)
    schedule.check()
    if mode == "paced" and schedule.going_on is None:
        steps = schedule.paced_steps()
    return {"steps": steps, "minutes": schedule.going_on, "rate": schedule.paced_rate}


def _write_costs(
    target: Path,
    path: Path,
    backends: list[str] | None,
    precision: str | None,
    threads: list[int] | None,
    steps: int | None,
) -> None:
    """Time the networks of a bundle, print what they take and write the table."""
    from movinet_edge.benchmarks.costs import RUNS, measure_costs
    from movinet_edge.bundle import Bundle
    from movinet_edge.cli.console import out
    from movinet_edge.files import text_file

    if len(backends or ()) > 1 or len(threads or ()) > 1:
        raise BadInput("a cost table is of one engine and one number of threads; give one of each")
    engine = backends[0] if backends else None
    with text_file(target) as write:
        table = measure_costs(
            Bundle(path), engine, precision, threads[0] if threads else 1, steps or RUNS
        )
        write(table.model_dump_json(indent=1) + "\n")
    for name, cost in table.networks.items():
        out().print(f"{name}: {cost:.3f} ms", highlight=False)
    out().print(f"wrote {target}", highlight=False, soft_wrap=True)


def _compared(report: Report, before: Report, limit: float) -> list[str]:
    """Print how much slower it is; what is too slow, in words."""
    from movinet_edge.benchmarks.baseline import check_slowdowns, slowdowns
    from movinet_edge.cli.console import out

    try:
        found = slowdowns(report, before)
        for label, ratio in found.items():
            out().print(f"{label}: {ratio:.2f} times the baseline", highlight=False)
        check_slowdowns(found, limit)
    except (BadInput, CheckFailed) as error:
        return [str(error)]
    return []


def _show(report: Report) -> None:
    from movinet_edge.benchmarks import output
    from movinet_edge.cli.console import out

    console = out()
    console.print(output.table(report))
    console.print(output.machine_line(report.machine), highlight=False)
    for note in report.notes:
        console.print(f"note: {note}", highlight=False, markup=False)
