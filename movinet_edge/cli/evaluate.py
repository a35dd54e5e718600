"""``movinet-edge evaluate``: how often is a model right, and what does that cost?"""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import replace
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from movinet_edge.cli.options import CostBias, HeldPrecision
from movinet_edge.cli.train import Task

if TYPE_CHECKING:
    import torch
    from rich.table import Table

    from movinet_edge.bundle import Preprocessing
    from movinet_edge.data.listing import VideoSet
    from movinet_edge.train.evaluate import EvalRecord
    from movinet_edge.train.protocols import Combine, EvalProtocol, Predictor

FINDS_SEGMENTS = "finds segments; add --task localization"


class CombineName(StrEnum):
    mean = "mean"
    max = "max"


class Protocol(StrEnum):
    stream = "stream"
    clip = "clip"
    multi_clip = "multi-clip"
    uniform = "uniform"


def evaluate(
    source: Annotated[
        Path,
        typer.Argument(
            metavar="CKPT|BUNDLE",
            help="A checkpoint (any that import reads), run by PyTorch, or a bundle.",
            show_default=False,
        ),
    ],
    data: Annotated[
        Path,
        typer.Option(
            metavar="DIR|LIST|JSON",
            help="Videos with their classes; of localization annotations.",
            show_default=False,
        ),
    ],
    task: Annotated[
        Task, typer.Option(help="localization: where actions are, by ActivityNet's measures.")
    ] = Task.classification,
    videos: Annotated[
        Path | None,
        typer.Option(
            help="Of localization: the folder of the annotated videos.", show_default=False
        ),
    ] = None,
    features: Annotated[
        Path | None,
        typer.Option(
            help="Of localization: features of these, extracted before.", show_default=False
        ),
    ] = None,
    class_scores: Annotated[
        Path | None,
        typer.Option(
            metavar="JSON|NPY",
            help="Of localization: scores of videos' classes, where the model does not classify.",
            show_default=False,
        ),
    ] = None,
    split: Annotated[
        str | None,
        typer.Option(help="Default: test, or val, or all there is.", show_default=False),
    ] = None,
    protocol: Annotated[
        Protocol,
        typer.Option(
            help="stream: every frame once, the answer after the last; clip: one clip from the "
            "middle; multi-clip: the mean over clips spread over the video; uniform: so many "
            "frames spread over the video, as one stream or clip. A shorter video is the clip; "
            "bundles of clip form complete it by repeating its last frame."
        ),
    ] = Protocol.stream,
    frames: Annotated[
        int | None,
        typer.Option(min=1, help="Length of a clip; default: the model's.", show_default=False),
    ] = None,
    clips: Annotated[
        int | None,
        typer.Option(min=1, help="Clips of multi-clip; default: 10.", show_default=False),
    ] = None,
    crops: Annotated[
        int,
        typer.Option(min=1, help="Squares of each clip, spread over the frame's longer side."),
    ] = 1,
    combine: Annotated[
        CombineName | None,
        typer.Option(
            help="Of the probabilities of clips and crops; default: mean, or max where a video "
            "may have several classes.",
            show_default=False,
        ),
    ] = None,
    size: Annotated[
        int | None,
        typer.Option(
            min=32,
            help="Side of a checkpoint's frames in pixels; default: the model's.",
            show_default=False,
        ),
    ] = None,
    backend: Annotated[
        str | None,
        typer.Option(help="Of a bundle; default: the first installed.", show_default=False),
    ] = None,
    precision: HeldPrecision = None,
    threads: Annotated[
        int | None,
        typer.Option(min=1, help="CPU threads; default: 1 for bundles.", show_default=False),
    ] = None,
    cost_bias: CostBias = 0.0,
    shuffle: Annotated[
        bool, typer.Option("--shuffle", help="Frames in random order: does order matter?")
    ] = False,
    seed: Annotated[int, typer.Option(min=0, help="Of the random order.")] = 0,
    limit: Annotated[
        int | None,
        typer.Option(min=1, help="Only so many videos, spread evenly.", show_default=False),
    ] = None,
    workers: Annotated[int, typer.Option(min=0, help="Processes that decode videos.")] = 2,
    device: Annotated[
        str | None,
        typer.Option(
            help="Of a checkpoint, cpu or cuda; default: cuda if there is one.", show_default=False
        ),
    ] = None,
    json_file: Annotated[
        Path | None,
        typer.Option("--json", metavar="FILE", help="Write the whole record.", show_default=False),
    ] = None,
) -> None:
    """Measure accuracy on videos, with the work and memory of a protocol; torchrun shares it."""
    from movinet_edge.cli.console import bar, out
    from movinet_edge.files import MANIFEST, text_file
    from movinet_edge.train.evaluate import EvalOptions
    from movinet_edge.train.evaluate import evaluate as measure
    from movinet_edge.train.parallel import world

    bundle = source.suffix == ".zip" or (source / MANIFEST).is_file()
    if task is Task.localization:
        from movinet_edge.cli.evaluate_localization import Asked, evaluate_segments

        _refuse(bundle and device == "cuda", "bundles run on the CPU; leave out --device")
        _refuse(not bundle and precision is not None, "--precision is for bundles; leave it out")
        _refuse(not bundle and backend is not None, "--backend is for bundles; leave it out")
        _refuse(cost_bias != 0, "localizers decide nothing; leave out --cost-bias")
        held = precision and precision.value
        places = (data, videos, features, class_scores)
        asked_for = Asked(*places, split, limit, threads, device, backend, held)
        evaluate_segments(source, bundle, asked_for, json_file)
        return
    given = {"--videos": videos, "--features": features, "--class-scores": class_scores}
    for option, value in given.items():
        _refuse(value is not None, f"{option} is of localization; add --task localization")
    asked = replace(_protocol(protocol, frames, clips), crops=crops)
    _refuse(bundle and device == "cuda", "bundles run on the CPU; leave out --device")
    _refuse(not bundle and precision is not None, "--precision is for bundles; leave it out")
    _refuse(not bundle and backend is not None, "--backend is for bundles; leave it out")
    _refuse(bundle and size is not None, "a bundle's frames have one size; leave out --size")
    with ExitStack() as stack:
        here = stack.enter_context(world("cpu" if bundle else device))
        target = json_file if here.leads else None
        write = stack.enter_context(text_file(target)) if target else None
        if bundle:
            opened = _open_bundle(
                source,
                asked,
                backend,
                precision and precision.value,
                threads or 1,
                cost_bias,
                stack,
            )
        else:
            opened = _open_checkpoint(source, asked, here.device, threads, size, cost_bias)
        predictor, contract, labels = opened
        _refuse(
            crops > 1 and contract.fit == "stretch",
            f"{source} sees whole frames, stretched; leave out --crops",
        )
        usual: Combine = "max" if predictor.multi_label else "mean"
        how: Combine = combine.value if combine else usual
        predictor.protocol = replace(predictor.protocol, combine=how)
        chosen = limited(_videos(data, split, labels), limit)
        options = EvalOptions(shuffle, seed, workers, time=True)
        if here.leads:
            with bar("evaluate") as update:
                record = measure(predictor, chosen, contract, options, update)
        else:
            record = measure(predictor, chosen, contract, options)
        if write is not None:
            write(record.to_json())
    if here.leads:
        _notes(record)
        out().print(_heading(record), highlight=False, soft_wrap=True)
        out().print(table(record))
        if json_file is not None:
            out().print(f"wrote {json_file}", highlight=False, soft_wrap=True)


def _notes(record: EvalRecord) -> None:
    """Say once which videos did not take part."""
    from movinet_edge.cli.console import err

    for video in record.broken:
        text = f"note: {video.path} is left out: {video.reason}"
        err().print(text, highlight=False, soft_wrap=True)
    if record.missing:
        text = f"note: {record.missing} videos that {record.data} names are not there"
        err().print(text, highlight=False, soft_wrap=True)


def table(record: EvalRecord) -> Table:
    """The record without its matrices; memory in 10^6 bytes."""
    from rich.box import SIMPLE_HEAD
    from rich.table import Table

    peak = record.peak_memory_bytes
    rows = {"mAP": f"{record.score:.1%}"} if record.multi_label else {}
    rows |= {
        "top-1": f"{record.top1:.1%}",
        f"top-{min(5, len(record.labels))}": f"{record.top5:.1%}",
        "videos": f"{record.videos}",
        "skipped": f"{record.skipped}",
        "MACs per video": f"{record.macs_per_video / 1e9:.3f} G",
        **({} if record.ms_per_frame is None else {"ms per frame": f"{record.ms_per_frame:.2f}"}),
        "peak memory": "unknown" if peak is None else f"{peak / 1e6:.1f} MB",
        "weights": f"{record.weights_bytes / 1e6:.1f} MB",
        "state": f"{record.state_bytes / 1e6:.2f} MB",
    }
    if record.gflops_per_frame is not None:
        rows["GFLOPs per frame, as published"] = f"{record.gflops_per_frame:.4g}"
    for name, share in (record.usage or {}).items():
        rows[f"  {name}"] = f"{share:.1%}"
    made = Table("", "", box=SIMPLE_HEAD, show_header=False)
    made.columns[1].justify = "right"
    for name, value in rows.items():
        made.add_row(name, value)
    return made


def _heading(record: EvalRecord) -> str:
    """What was evaluated, and how."""
    how = {
        "stream": "every frame once",
        "clip": f"one clip of {record.frames} frames",
        "uniform": f"{record.frames} frames spread over the video",
        "multi-clip": f"up to {record.clips} clips of {record.frames} frames",
    }[record.protocol]
    views = f", {record.crops} crops of each" if record.crops > 1 else ""
    if record.crops * record.clips > 1 and record.combine == "max":
        views += ", the highest counts"
    order = "" if record.seed is None else f", shuffled with seed {record.seed}"
    data = ", ".join([record.data, *record.splits])
    return f"{record.model}, {record.engine}\n{record.protocol}: {how}{views}{order}; {data}"


def limited(videos: VideoSet, limit: int | None) -> VideoSet:
    """At most `limit` of the videos, spread evenly: lists are often sorted by class."""
    count = len(videos.videos)
    if limit is None or limit >= count:
        return videos
    return replace(videos, videos=tuple(videos.videos[i * count // limit] for i in range(limit)))


Opened = tuple["Predictor", "Preprocessing", "list[str] | None"]


def _open_bundle(
    source: Path,
    protocol: EvalProtocol,
    backend: str | None,
    precision: str | None,
    threads: int,
    cost_bias: float,
    stack: ExitStack,
) -> Opened:
    from movinet_edge.bundle import Bundle
    from movinet_edge.runtime import Stream
    from movinet_edge.train.adaptive_eval import bundle_predictor

    bundle = Bundle(source)
    manifest = bundle.manifest
    _refuse(manifest.localization is not None, f"{source} {FINDS_SEGMENTS}")
    stream = stack.enter_context(Stream(bundle, backend, precision, threads, cost_bias))
    labels = bundle.labels if manifest.labels else None
    return bundle_predictor(stream, protocol), manifest.preprocessing, labels


def _open_checkpoint(
    source: Path,
    protocol: EvalProtocol,
    device: torch.device,
    threads: int | None,
    side: int | None,
    cost_bias: float,
) -> Opened:
    import torch

    from movinet_edge.checkpoints.importer import read_checkpoint
    from movinet_edge.models.arnet import ArNet
    from movinet_edge.models.localizer import Localizer
    from movinet_edge.runtime.choice import finite_bias
    from movinet_edge.train.adaptive_eval import torch_predictor

    if threads is not None:
        torch.set_num_threads(threads)
    checkpoint = read_checkpoint(source)
    _refuse(isinstance(checkpoint.model, Localizer), f"{source} {FINDS_SEGMENTS}")
    contract = checkpoint.preprocessing
    if side is not None:
        contract = contract.model_copy(update={"height": side, "width": side})
    size = contract.height, contract.width
    model = checkpoint.model.to(device)
    decides = isinstance(model, ArNet) and model.arch.chooses
    _refuse(
        bool(cost_bias) and not decides,
        f"{model.arch.name} decides nothing; leave out --cost-bias",
    )
    bias = finite_bias(cost_bias)
    predictor = torch_predictor(model, size, protocol, device, cost_bias=bias)
    return predictor, contract, checkpoint.labels


def _videos(data: Path, split: str | None, labels: list[str] | None) -> VideoSet:
    from movinet_edge.data.listing import read_video_set
    from movinet_edge.data.sources import read_source

    found = read_source(data)
    return read_video_set(found, split or found.first_of("test", "val"), labels)


def _protocol(protocol: Protocol, frames: int | None, clips: int | None) -> EvalProtocol:
    from movinet_edge.train.protocols import EvalProtocol

    _refuse(
        protocol is Protocol.stream and frames is not None,
        "a stream sees every frame; --frames needs --protocol clip, multi-clip or uniform",
    )
    _refuse(
        protocol is not Protocol.multi_clip and clips is not None,
        "--clips needs --protocol multi-clip",
    )
    return EvalProtocol(protocol.value, frames, clips or 10)


def _refuse(wrong: bool, sentence: str) -> None:
    from movinet_edge.errors import BadInput

    if wrong:
        raise BadInput(sentence)
