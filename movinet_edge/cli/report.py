"""``movinet-edge report``: benchmarks as a page."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def report(
    files: Annotated[
        list[Path],
        typer.Argument(
            metavar="FILE...",
            help="Reports of bench --json, and of evaluate --json for accuracy beside latency.",
            show_default=False,
        ),
    ],
    html: Annotated[Path, typer.Option(metavar="FILE", help="Where to write the page.")],
) -> None:
    """Show benchmarks side by side in one HTML page that needs no network."""
    from movinet_edge.benchmarks.page import read_records, write_page
    from movinet_edge.cli.console import out

    write_page(read_records(files), html)
    out().print(f"wrote {html}", highlight=False, soft_wrap=True)
