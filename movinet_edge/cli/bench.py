"""``movinet-edge bench``: what a step costs here, and against what else."""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path
from typing import Annotated

import typer


def bench(
    path: Annotated[Path, typer.Argument(metavar="BUNDLE", help="Directory or .zip.")],
    backend: Annotated[
        list[str] | None,
        typer.Option(help="Repeatable; default: every installed one but torch."),
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
    against: Annotated[
        list[Path] | None,
        typer.Option(metavar="FILE", help="A streaming .tflite or .onnx, or a bundle; repeatable."),
    ] = None,
    json_file: Annotated[
        Path | None, typer.Option("--json", metavar="FILE", help="Write the report.")
    ] = None,
) -> None:
    """Check a bundle's backends, then time them in turn, step by step."""
    from movinet_edge.benchmarks import host, output
    from movinet_edge.cli.console import out, progress

    options = host.Options(backend or (), threads or (1,), steps, paced, against or ())
    with ExitStack() as stack:
        write = None if json_file is None else stack.enter_context(output.report_file(json_file))
        with progress("bench") as say:
            report = host.bench(path, options, say)
        if write is not None:
            write(report)
    console = out()
    console.print(output.table(report))
    console.print(output.machine_line(report.machine), highlight=False)
    for note in report.notes:
        console.print(f"note: {note}", highlight=False, markup=False)
