"""``movinet-edge models``: what can be built, with its size and published figures."""

from __future__ import annotations

from typing import Annotated

import typer


def models(
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON document.")] = False,
) -> None:
    """List the models: parameters, MACs per frame, state bytes, frame rate, published top-1."""
    import json

    from movinet_edge.checkpoints.native import trained_checkpoints
    from movinet_edge.cli.console import out
    from movinet_edge.models.facts import all_head_facts, all_model_facts
    from movinet_edge.models.registry import BASELINES

    facts, heads = all_model_facts(), all_head_facts()
    if as_json:
        print(json.dumps([*facts, *heads], indent=1))
        return
    from rich.table import Table

    table = Table(title="Models (MMAC of one frame; float32 states; Kinetics-600 top-1)")
    table.add_column("model", no_wrap=True)
    for heading in ("side", "params", "MMAC", "state kB", "fps", "top-1"):
        table.add_column(heading, justify="right", no_wrap=True)
    for row in facts:
        table.add_row(
            row["model"],
            str(row["resolution"]),
            f"{row['parameters'] / 1e6:.2f} M",
            f"{row['macs_per_frame'] / 1e6:.1f}",
            f"{row['state_bytes'] / 1000:.0f}" if row["state_bytes"] else "-",
            f"{row['frame_rate']:g}",
            f"{row['published']['top1']:.2f}" if row["published"] else "-",
        )
    out().print(table)
    table = Table(title="Localization heads, on the features of an encoder's snippets")
    table.add_column("head", no_wrap=True)
    for heading in ("params", "features", "snippets", "durations", "bins"):
        table.add_column(heading, justify="right", no_wrap=True)
    for row in heads:
        sizes = (f"{row[key]}" for key in ("features", "snippets", "durations"))
        bins = " + ".join(map(str, row["bins"]))
        table.add_row(row["model"], f"{row['parameters'] / 1e6:.2f} M", *sizes, bins)
    out().print(table)
    compared = ", ".join(BASELINES)
    out().print(f"baselines, to train and compare with: {compared}", highlight=False)
    names = ", ".join(trained_checkpoints())
    out().print(f"trained, usable by name wherever a checkpoint is: {names}", highlight=False)
