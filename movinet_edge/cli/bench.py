"""``movinet-edge bench``: what a step costs here, and against what else."""

from __future__ import annotations

import math
from contextlib import ExitStack
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from movinet_edge.cli.options import HeldPrecision
from movinet_edge.errors import BadInput, CheckFailed

if TYPE_CHECKING:
    from movinet_edge.benchmarks.record import Report
    from movinet_edge.bundle import Bundle

MAX_SLOWDOWN = 1.15


class Delegate(StrEnum):
    none = "none"
    xnnpack = "xnnpack"
    nnapi = "nnapi"
    gpu = "gpu"


def bench(
    path: Annotated[Path, typer.Argument(metavar="BUNDLE", help="Directory or .zip.")],
    device: Annotated[
        str,
        typer.Option(help="host, adb:SERIAL, adb:all or ssh:USER@HOST; see movinet-edge devices."),
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
        int | None, typer.Option(min=1, help="Default: 200; with --paced 5 seconds' worth.")
    ] = None,
    paced: Annotated[
        bool, typer.Option("--paced", help="Step at the camera's rate instead of back to back.")
    ] = False,
    minutes: Annotated[
        float | None,
        typer.Option(
            min=0.001,
            help="On a device: go on for so long, with its temperature.",
            show_default=False,
        ),
    ] = None,
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
    """Check a bundle's backends, then time them in turn, step by step; here or on a device."""
    from movinet_edge.benchmarks import host, output
    from movinet_edge.benchmarks.baseline import read_report
    from movinet_edge.bundle import Bundle
    from movinet_edge.cli.bench_devices import bench_devices, remote_options
    from movinet_edge.cli.console import progress

    if costs is not None:
        if device != "host" or against or paced or baseline or json_file:
            raise BadInput("--costs times networks alone, on the host; leave out other options")
        _write_costs(costs, Bundle(path), backend, precision and precision.value, threads, steps)
        return
    if max_slowdown is not None and baseline is None:
        raise BadInput("--max-slowdown needs a --baseline to compare with")
    before = None if baseline is None else read_report(baseline)
    if device != "host":
        if against:
            raise BadInput("peers are compared on the host; leave out --against")
        named = precision and precision.value
        chosen = delegate and delegate.value
        rate = Bundle(path).manifest.preprocessing.frame_rate if paced else None
        if rate is not None and steps is None:
            steps = math.ceil(host.PACED_SECONDS * rate)
        native = {"delegate": chosen, "steps": steps, "minutes": minutes, "rate": rate}
        options = remote_options(backend or (), threads or (), named, program, library, **native)
        reports, failures = bench_devices(device, path, options, json_file)
    else:
        there: dict[str, object] = {"--delegate": delegate, "--minutes": minutes}
        there |= {"--program": program, "--library": library, "--precision": precision}
        for name, value in there.items():
            if value is not None:
                raise BadInput(f"{name} is for devices; add --device, or leave it out")
        how = host.Options(backend or (), threads or (1,), steps, paced, against or ())
        with ExitStack() as stack:
            write = stack.enter_context(output.report_file(json_file)) if json_file else None
            with progress("bench") as say:
                reports, failures = [host.bench(path, how, say)], []
            if write is not None:
                write(reports[0])
    for report in reports:
        _show(report)
        if before is not None:
            limit = MAX_SLOWDOWN if max_slowdown is None else max_slowdown
            failures += _compared(report, before, limit)
    if failures:
        raise CheckFailed("; ".join(failures))


def _write_costs(
    target: Path,
    bundle: Bundle,
    backends: list[str] | None,
    precision: str | None,
    threads: list[int] | None,
    steps: int | None,
) -> None:
    """Time the networks of a bundle, print what they take and write the table."""
    from movinet_edge.benchmarks.costs import RUNS, measure_costs
    from movinet_edge.cli.console import out
    from movinet_edge.files import text_file

    if len(backends or ()) > 1 or len(threads or ()) > 1:
        raise BadInput("a cost table is of one engine and one number of threads; give one of each")
    engine = backends[0] if backends else None
    with text_file(target) as write:
        table = measure_costs(
            bundle, engine, precision, threads[0] if threads else 1, steps or RUNS
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
