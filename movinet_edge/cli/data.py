"""``movinet-edge data``: data sets, checked and made."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from movinet_edge.cli.data_make import app as make_app

if TYPE_CHECKING:
    from rich.table import Table

    from movinet_edge.data.check import DataCheck, Spread

# So many classes, and problems of a kind, are printed; of the classes the smallest and largest.
SHOWN = 30

app = typer.Typer(help="Check and make data sets.", no_args_is_help=True)
app.add_typer(make_app, name="make")


@app.callback()
def _group() -> None:
    """Check and make data sets."""


@app.command("check")
def check(
    source: Annotated[
        Path,
        typer.Argument(
            metavar="DIR|LIST",
            help="DIR/<class>/*.mp4, DIR/<split>/<class>/*.mp4, or a list (.txt, .csv).",
            show_default=False,
        ),
    ],
    split: Annotated[
        str | None, typer.Option(help="Only train, val or test.", show_default=False)
    ] = None,
    labels: Annotated[
        Path | None,
        typer.Option(help="The classes there should be, one per line.", show_default=False),
    ] = None,
    json_file: Annotated[
        Path | None, typer.Option("--json", help="Write all that was found.", show_default=False)
    ] = None,
    jobs: Annotated[
        int | None, typer.Option(min=1, help="Files at a time; all cores by default.")
    ] = None,
) -> None:
    """Decode every video and look for what would spoil a training.

    Unreadable and one-frame files, wrong labels, empty classes, videos in two classes or splits.
    """
    from movinet_edge.cli.console import bar, out
    from movinet_edge.data.check import check_data
    from movinet_edge.errors import CheckFailed
    from movinet_edge.files import write_text

    names = None
    if labels is not None:
        from movinet_edge.checkpoints.importer import read_labels

        names = read_labels(labels)
    with bar("decoding videos") as update:
        record = check_data(source, split, names, jobs, update)
    if json_file is not None:
        write_text(json_file, record.model_dump_json(indent=1) + "\n")
    show(record)
    if not record.holds:
        count = len(record.problems)
        raise CheckFailed(f"{source} has {count} problem{'s' if count > 1 else ''}")
    out().print(f"{source} is in order", highlight=False, soft_wrap=True)


def show(record: DataCheck) -> None:
    """Print the figures and what is wrong."""
    from movinet_edge.cli.console import out

    if record.splits:
        out().print(_figures(record))
        shown = _shown(record)
        if len(shown) < len(record.labels) - len(record.unused):
            out().print(f"the {len(shown)} classes of the fewest and the most videos:")
        out().print(_balance(record, shown))
    _print_some([f"note: no video of the class {name}" for name in record.unused])
    for kind in dict.fromkeys(problem.kind for problem in record.problems):
        _print_some([f"{kind}: {p.text}" for p in record.problems if p.kind == kind])


def _print_some(lines: list[str]) -> None:
    from rich.text import Text

    from movinet_edge.cli.console import out

    more = [f"... and {len(lines) - SHOWN} more (--json writes all)"] if len(lines) > SHOWN else []
    for line in [*lines[:SHOWN], *more]:
        out().print(Text(line), soft_wrap=True)


def _figures(record: DataCheck) -> Table:
    from rich.table import Table
    from rich.text import Text

    table = Table(title="smallest / median / largest", title_justify="left")
    for column in ("split", "videos", "seconds", "width", "height", "frames/s"):
        table.add_column(column)
    for split in record.splits:
        spreads = split.seconds, split.width, split.height, split.frame_rate
        table.add_row(Text(split.name), str(split.videos), *map(_spread, spreads))
    return table


def _spread(spread: Spread | None) -> str:
    if spread is None:
        return "-"
    values = spread.minimum, spread.median, spread.maximum
    return " / ".join(f"{value:.4g}" for value in values)


def _shown(record: DataCheck) -> list[str]:
    """The classes that have videos; of many, those with the fewest and the most."""
    names = [label for label in record.labels if label not in record.unused]
    if len(names) <= SHOWN:
        return names
    names.sort(key=lambda name: sum(split.per_class[name] for split in record.splits))
    return [*names[: SHOWN // 2], *names[-SHOWN // 2 :]]


def _balance(record: DataCheck, names: list[str]) -> Table:
    """A row per class: its videos in every split."""
    from rich.table import Table
    from rich.text import Text

    table = Table()
    table.add_column("class", overflow="fold")
    for split in record.splits:
        table.add_column(Text(split.name), justify="right")
    for name in names:
        table.add_row(Text(name), *(str(split.per_class[name]) for split in record.splits))
    return table
