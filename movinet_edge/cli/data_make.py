"""``movinet-edge data make``: data sets that are drawn, not filmed."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer


class MotionVariant(StrEnum):
    plain = "plain"
    adaptive = "adaptive"


app = typer.Typer(help="Draw a data set.", no_args_is_help=True)


@app.callback()
def _group() -> None:
    """Draw a data set."""


@app.command("motion")
def motion(
    out: Annotated[Path, typer.Option(help="The folder to make; it must not exist yet.")],
    classes: Annotated[int, typer.Option(help="How many classes; they come in pairs.")] = 12,
    per_class: Annotated[
        int,
        typer.Option(
            help="Videos per class (--untrimmed: in all): 70 % train, 10 % val, 20 % test."
        ),
    ] = 100,
    size: Annotated[int, typer.Option(help="Side of the videos in pixels.")] = 96,
    seed: Annotated[int, typer.Option(min=0, help="The same seed draws the same videos.")] = 0,
    untrimmed: Annotated[
        bool,
        typer.Option("--untrimmed", help="Long videos of several actions, with their segments."),
    ] = False,
    variant: Annotated[
        MotionVariant,
        typer.Option(
            help="adaptive: long clips in which little happens, told by a movement or by the "
            "pattern of a small card that is there for a moment."
        ),
    ] = MotionVariant.plain,
    jobs: Annotated[
        int | None, typer.Option(min=1, help="Processes; all cores by default.")
    ] = None,
) -> None:
    """Motion videos whose classes only temporal order can tell: opening or closing, left or right.

    Real H.264 files with textures, distractors, camera shake and noise.
    """
    from movinet_edge.cli.console import bar
    from movinet_edge.cli.console import out as console
    from movinet_edge.data.motion import MotionConfig, make_motion

    config = MotionConfig(classes, per_class, size, seed, untrimmed, variant.value)
    with bar("drawing videos") as update:
        count = make_motion(config, out, jobs, update)
    console().print(f"wrote {count} videos to {out}", highlight=False, soft_wrap=True)
