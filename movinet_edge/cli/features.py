"""``movinet-edge features``: what an encoder makes of untrimmed videos, on disk."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated

import typer

SHARD = re.compile(r"([1-9]\d*)/([1-9]\d*)")


def features(
    source: Annotated[
        Path,
        typer.Argument(
            metavar="CKPT", help="A checkpoint of an encoder or a localizer.", show_default=False
        ),
    ],
    data: Annotated[
        Path,
        typer.Option(metavar="JSON|CSV|DIR", help="Annotations: which videos.", show_default=False),
    ],
    videos: Annotated[Path, typer.Option(help="The folder of the videos.", show_default=False)],
    out: Annotated[Path, typer.Option(help="The folder of features.", show_default=False)],
    split: Annotated[
        str | None, typer.Option(help="Only this one; default: all.", show_default=False)
    ] = None,
    shard: Annotated[
        str | None,
        typer.Option(
            metavar="I/N",
            help="Only the I-th of N parts, 1/N the first. torchrun deals them out by itself.",
            show_default=False,
        ),
    ] = None,
    snippets: Annotated[
        int | None,
        typer.Option(
            min=1,
            help="Of a video, spread over all of it; default: as the head takes them, or 100.",
            show_default=False,
        ),
    ] = None,
    every: Annotated[
        float | None,
        typer.Option(
            min=0.01,
            metavar="SECONDS",
            help="A snippet every so many seconds instead, for windows (THUMOS14).",
            show_default=False,
        ),
    ] = None,
    device: Annotated[
        str | None,
        typer.Option(help="cpu or cuda; default: cuda if there is one.", show_default=False),
    ] = None,
    threads: Annotated[
        int | None, typer.Option(min=1, help="CPU threads of PyTorch.", show_default=False)
    ] = None,
) -> None:
    """Extract features at full fidelity: a .npy for each video, snippets by features, and an index.

    What is there already is kept: the same command goes on with what was stopped or killed.
    """
    import torch

    from movinet_edge.checkpoints.importer import read_checkpoint
    from movinet_edge.cli.console import bar
    from movinet_edge.cli.console import out as console
    from movinet_edge.data.annotations import read_annotations
    from movinet_edge.data.snippets import VideoFolder
    from movinet_edge.errors import BadInput
    from movinet_edge.train.extraction import extract
    from movinet_edge.train.localization_data import extractor_of
    from movinet_edge.train.parallel import world

    if snippets is not None and every is not None:
        raise BadInput("--snippets and --every exclude each other; leave one of them out")
    part = _shard(shard)
    if threads is not None:
        torch.set_num_threads(threads)
    annotations = read_annotations(data, split)
    folder = VideoFolder(videos)
    with world(device) as here:
        if here.size > 1:
            if part is not None:
                raise BadInput("torchrun deals out the shards; leave out --shard")
            part = (here.rank + 1, here.size)
        extractor = extractor_of(read_checkpoint(source), here.device, snippets, every)
        with bar("features") as update:
            index = extract(extractor, annotations, folder, out, part or (1, 1), update)
        left_out = len(index["missing"]) + len(index["broken"])
        if not index["videos"] and left_out and part is None:
            raise BadInput(
                f"none of the {left_out} videos of {data} can be used (such as "
                f"{[*index['missing'], *index['broken']][0]}); name the folder that has them"
            )
    _tell_left_out(index)
    console().print(
        f"{len(index['videos'])} videos, {extractor.facts.width} features per snippet; wrote {out}",
        highlight=False,
        soft_wrap=True,
    )


def _shard(text: str | None) -> tuple[int, int] | None:
    from movinet_edge.errors import BadInput

    if text is None:
        return None
    match = SHARD.fullmatch(text)
    if match is None or int(match[1]) > int(match[2]):
        raise BadInput(f"--shard takes I/N with I from 1 to N, not {text!r}")
    return int(match[1]), int(match[2])


def _tell_left_out(index: dict[str, dict[str, str]]) -> None:
    from movinet_edge.cli.console import note

    lines = [f"{name} is left out: it is not there" for name in index["missing"]]
    lines += [f"{name} is left out: {reason}" for name, reason in index["broken"].items()]
    for line in lines:
        note(line)
