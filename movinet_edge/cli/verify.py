"""``movinet-edge verify``: does a bundle compute what its PyTorch model computes?"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    from movinet_edge.bundle import Bundle
    from movinet_edge.export.verify_record import Check, VerifyRecord


def verify(
    path: Annotated[Path, typer.Argument(metavar="BUNDLE", help="Directory or .zip.")],
    video: Annotated[
        list[Path] | None,
        typer.Option(help="Stream this video, too; repeatable.", show_default=False),
    ] = None,
    steps: Annotated[
        int | None,
        typer.Option(help="Frames per stream; default: all stored.", show_default=False),
    ] = None,
    backend: Annotated[
        list[str] | None,
        typer.Option(help="Repeatable; default: every installed one.", show_default=False),
    ] = None,
    properties: Annotated[
        bool,
        typer.Option(help="Also check states, reset and names; most of the time on slow machines."),
    ] = True,
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
    from movinet_edge.errors import BadInput
    from movinet_edge.export.report import check_html_tools, write_html, write_json, write_junit

    files = [file.resolve() for file in (json_file, junit, html) if file is not None]
    if len(set(files)) < len(files):
        raise BadInput("--json, --junit and --html need a file each")
    if html is not None:
        check_html_tools()
    record = _verified(Bundle(path), backend, video or [], steps, properties)
    for file, write in ((json_file, write_json), (junit, write_junit), (html, write_html)):
        if file is not None:
            write(record, file)
    show(record, out())
    if not record.holds:
        raise typer.Exit(1)


def _verified(
    bundle: Bundle,
    backends: list[str] | None,
    videos: list[Path],
    steps: int | None,
    properties: bool,
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
            record = verify_bundle(bundle, backends, videos, steps, properties, say)
        except BadInput as error:
            refused = error
    if refused is not None:
        raise refused
    return record


def show(record: VerifyRecord, console: Console) -> None:
    """Print streams, properties and graph facts; the verdict is the last line."""
    from rich.text import Text

    console.print(_streams(record))
    for kind in ("reference", "property", "graph"):
        if checks := record.of_kind(kind):
            console.print(_matrix(kind, checks))
    for fact in record.facts:
        parts = [
            f"{sum(fact.operators.values())} operators",
            f"highest rank {fact.max_rank}",
            f"{fact.transposes} TRANSPOSE",
            *([f"opset {fact.opset}"] if fact.opset else []),
            *([f"XNNPACK partitions {fact.partitions}"] if fact.partitions is not None else []),
            *(["fully accelerated"] if fact.fully_accelerated else []),
        ]
        console.print(Text(f"{fact.path}: {', '.join(parts)}"), soft_wrap=True)
    for note in record.notes:
        console.print(Text(f"note: {note}"), soft_wrap=True)
    console.print(Text(summary(record)), soft_wrap=True)


def summary(record: VerifyRecord) -> str:
    """The verdict in one line."""
    if record.holds:
        return "parity holds"
    reasons = "; ".join(f"{c.subject}, {c.name}: {c.detail}" for c in record.failures)
    return f"parity does not hold: {reasons}"


def _streams(record: VerifyRecord) -> Table:
    """A row per backend and stream; errors relative to the deviation of the logits."""
    from rich.box import SIMPLE_HEAD
    from rich.table import Table
    from rich.text import Text

    title = f"{record.bundle}, form {record.form}"
    table = Table(title=title, title_justify="left", box=SIMPLE_HEAD, padding=0)
    table.add_column("backend", overflow="fold")
    table.add_column("stream", overflow="fold")
    for column in ("steps", "error", "cosine", "top-1", "growth"):
        table.add_column(column, justify="right", no_wrap=True)
    table.add_column("")
    for parity in record.streams:
        figures, cells = parity.figures, ["-"] * 4
        if figures is not None:
            ratio = figures.growth_ratio
            cells = [
                f"{figures.max_error:.1e}",
                f"{figures.min_cosine:.6f}",
                f"{figures.top1_agreement:.0%}",
                "-" if ratio is None else f"x{ratio:.2g}",
            ]
        names = Text(parity.subject), Text(parity.stream)
        table.add_row(*names, str(parity.steps), *cells, _verdict(parity.failure is None))
    return table


def _matrix(title: str, checks: list[Check]) -> Table:
    """Checks by name (rows) and subject (columns); what fails is explained in the summary."""
    from rich.box import SIMPLE_HEAD
    from rich.table import Table
    from rich.text import Text

    subjects = list(dict.fromkeys(check.subject for check in checks))
    found = {(check.name, check.subject): check for check in checks}
    table = Table(title, box=SIMPLE_HEAD, padding=0)
    for subject in subjects:
        table.add_column(Text(subject), overflow="fold")
    for name in dict.fromkeys(check.name for check in checks):
        cells = [found.get((name, subject)) for subject in subjects]
        table.add_row(Text(name), *("" if c is None else _verdict(c.holds) for c in cells))
    return table


def _verdict(holds: bool) -> Text:
    from rich.text import Text

    return Text("holds", "green") if holds else Text("fails", "bold red")
