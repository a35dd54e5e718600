"""``movinet-edge verify``: does a bundle compute what its PyTorch model computes?"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from rich.console import Console

    from movinet_edge.bundle import Bundle
    from movinet_edge.export.verify_record import Figures, VerifyRecord


def verify(
    path: Annotated[Path, typer.Argument(metavar="BUNDLE", help="Directory or .zip.")],
    video: Annotated[
        list[Path] | None,
        typer.Option(help="Stream this video, too; repeatable.", show_default=False),
    ] = None,
    steps: Annotated[
        int | None,
        typer.Option(min=1, help="Frames per stream; default: all stored.", show_default=False),
    ] = None,
    backend: Annotated[
        list[str] | None,
        typer.Option(help="Repeatable; default: every installed one.", show_default=False),
    ] = None,
    json_file: Annotated[
        Path | None, typer.Option("--json", help="Write the whole record.", show_default=False)
    ] = None,
    junit: Annotated[Path | None, typer.Option(help="Write JUnit XML.", show_default=False)] = None,
    html: Annotated[
        Path | None, typer.Option(help="Write a report with plots.", show_default=False)
    ] = None,
) -> None:
    """Stream frames through every artefact and backend and compare each step with PyTorch."""
    from movinet_edge.bundle import Bundle
    from movinet_edge.cli.console import out
    from movinet_edge.export.report import check_html_tools, write_html, write_json, write_junit

    if html is not None:
        check_html_tools()
    record = _verified(Bundle(path), backend, video or [], steps)
    for file, write in ((json_file, write_json), (junit, write_junit), (html, write_html)):
        if file is not None:
            write(record, file)
    show(record, out())
    if not record.holds:
        raise typer.Exit(1)


def _verified(
    bundle: Bundle, backends: list[str] | None, videos: list[Path], steps: int | None
) -> VerifyRecord:
    from movinet_edge.cli.console import progress
    from movinet_edge.errors import BadInput
    from movinet_edge.export.verify import verify_bundle
    from movinet_edge.runtime.quiet import quiet

    # Engines log whenever one is let go. A refusal is carried out of the quiet, which would
    # print all it hid.
    refused: BadInput | None = None
    with progress("verify") as say, quiet():
        try:
            record = verify_bundle(bundle, backends, videos, steps, progress=say)
        except BadInput as error:
            refused = error
    if refused is not None:
        raise refused
    return record


def show(record: VerifyRecord, console: Console) -> None:
    """Print streams, properties and graph facts; the verdict is the last line."""
    from rich.table import Table
    from rich.text import Text

    def verdict(holds: bool) -> Text:
        return Text("holds", "green") if holds else Text("fails", "bold red")

    table = Table(title=f"{record.bundle}, form {record.form}", title_justify="left")
    for column in ("backend", "stream", "steps", "max error", "cosine", "top-1", "growth", ""):
        table.add_column(column, justify="right" if column in NUMBERS else "left")
    for parity in record.streams:
        figures = [f"{parity.steps}", *_figures(parity.figures)]
        table.add_row(
            Text(parity.subject), Text(parity.stream), *figures, verdict(not parity.failure)
        )
    console.print(table)
    checks = Table("check", "of", "", "figure", show_edge=False)
    for check in record.checks:
        if check.kind != "parity":
            row = Text(check.name), Text(check.subject), verdict(check.holds), Text(check.detail)
            checks.add_row(*row)
    console.print(checks)
    for fact in record.facts:
        parts = [
            f"{sum(fact.operators.values())} operators",
            f"{fact.transposes} transposes",
            *([f"opset {fact.opset}"] if fact.opset else []),
            *([f"{fact.partitions} XNNPACK partitions"] if fact.partitions is not None else []),
            *(["fully accelerated"] if fact.fully_accelerated else []),
        ]
        console.print(Text(f"{fact.path}: {', '.join(parts)}"), highlight=False)
    for note in record.notes:
        console.print(Text(f"note: {note}"), highlight=False, soft_wrap=True)
    console.print(Text(summary(record)), highlight=False, soft_wrap=True)


NUMBERS = ("steps", "max error", "cosine", "top-1", "growth")


def _figures(figures: Figures | None) -> list[str]:
    """Max error relative to the deviation, cosine, top-1 agreement, growth of the error."""
    if figures is None:
        return ["-"] * 4
    ratio = figures.growth_ratio
    return [
        f"{figures.max_error:.1e}",
        f"{figures.min_cosine:.6f}",
        f"{figures.top1_agreement:.1%}",
        "-" if ratio is None else f"x{ratio:.3g}",
    ]


def summary(record: VerifyRecord) -> str:
    """The verdict in one line."""
    if record.holds:
        return "parity holds"
    reasons = "; ".join(f"{c.subject}: {c.name} ({c.detail})" for c in record.failures)
    return f"parity does not hold: {reasons}"
