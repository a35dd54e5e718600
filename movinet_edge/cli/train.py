"""``movinet-edge train``: a folder of videos becomes a checkpoint."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from movinet_edge.cli.options import pairs

if TYPE_CHECKING:
    from movinet_edge.data.listing import VideoSet
    from movinet_edge.train.loop import Loop, Progress, TrainOptions
    from movinet_edge.train.parallel import World
    from movinet_edge.train.recipe import Recipe
    from movinet_edge.train.run_folder import RunFolder


class Task(StrEnum):
    classification = "classification"
    localization = "localization"


class StageName(StrEnum):
    acp = "acp"
    lofi = "lofi"
    head = "head"
    all = "all"


def _option(help: str, *names: str, **more: Any) -> Any:
    return typer.Option(*names, help=help, show_default=False, **more)


def train(
    out: Annotated[Path, _option("The run's folder.")],
    data: Annotated[
        Path | None,
        _option("Folder of classes (perhaps below train/ and val/), or a .txt or .csv list."),
    ] = None,
    task: Annotated[Task, typer.Option(help="What to learn.")] = Task.classification,
    stage: Annotated[
        StageName | None,
        _option(
            "Of localization. acp: the encoder as a classifier of the actions that --data has in "
            "--videos; lofi: encoder and head together at reduced fidelity; head: a head on the "
            "features of --init; all: one after the other, by the recipes NAME-acp, NAME-lofi and "
            "NAME-head of --recipe NAME."
        ),
    ] = None,
    videos: Annotated[
        Path | None, _option("Of localization: the folder of the videos that --data annotates.")
    ] = None,
    features: Annotated[
        Path | None, _option("Of stage head: features that movinet-edge features made of them.")
    ] = None,
    actions: Annotated[
        Path | None,
        _option(
            "Of stage all: a folder of classes that stage acp learns from, in the place of the "
            "actions that --data has in --videos."
        ),
    ] = None,
    config: Annotated[
        str | None,
        _option(
            "Of stage lofi: S, T, ST, cycle-long, cycle-short, or R_TxR_S: by which factors there "
            "are fewer snippets and shorter sides."
        ),
    ] = None,
    memory_budget: Annotated[
        float | None,
        _option("Of stage lofi: reduce until a step fits.", metavar="GB", min=0),
    ] = None,
    val: Annotated[
        Path | None, _option("Videos to validate on, if not the val split of --data.")
    ] = None,
    resume: Annotated[
        bool, _option("Go on with the run in --out exactly where it stopped.", "--resume")
    ] = False,
    recipe: Annotated[
        str | None, _option("A shipped recipe or a .toml file; what follows overrides it.")
    ] = None,
    model: Annotated[str | None, _option("Such as a0-stream; see movinet-edge models.")] = None,
    init: Annotated[
        str | None, _option("Start from this checkpoint; the last layer is new if classes are.")
    ] = None,
    init_backbone: Annotated[
        list[str] | None,
        _option(
            "A network of a model that has several, trained by itself: policy=FILE, 0=FILE, ..., "
            "or net=FILE, the ResNet of a TSM. Also torchvision's, timm's or "
            "EfficientNet-PyTorch's. Repeatable.",
            metavar="PLACE=FILE",
        ),
    ] = None,
    freeze: Annotated[
        list[str] | None, _option("Leave a part as it is: backbone, stem, b0, ... Repeatable.")
    ] = None,
    subclips: Annotated[
        int | None, _option("Cut clips into so many sub-clips: memory is that of one.")
    ] = None,
    frames: Annotated[int | None, _option("Frames of a clip.")] = None,
    frame_rate: Annotated[float | None, _option("Frames per second.")] = None,
    size: Annotated[int | None, _option("Frame side in pixels.")] = None,
    flip: Annotated[bool | None, _option("Mirror half of the clips; not if sides matter.")] = None,
    epochs: Annotated[int | None, _option("Passes over the data.")] = None,
    batch: Annotated[int | None, _option("Clips per step, over all processes.")] = None,
    lr: Annotated[float | None, _option("Highest learning rate.")] = None,
    precision: Annotated[str | None, _option("fp32, bf16 or fp16.")] = None,
    qat: Annotated[
        bool | None,
        _option("Fine-tune --init in simulated int8, for a static int8 export.", "--qat"),
    ] = None,
    seed: Annotated[int | None, _option("Of everything random.")] = None,
    changes: Annotated[
        list[str] | None,
        _option("Any other field of a recipe, such as ema=0.99.", "--set", metavar="KEY=VALUE"),
    ] = None,
    workers: Annotated[int, typer.Option(help="Processes that decode videos.", min=0)] = 2,
    cache: Annotated[
        Path | None, _option("Folder to keep decoded frames in: large, and much faster.")
    ] = None,
    device: Annotated[str | None, _option("cpu or cuda; CUDA where there is one.")] = None,
    threads: Annotated[int | None, _option("CPU threads of PyTorch.", min=1)] = None,
    save_every: Annotated[
        int, typer.Option(help="Steps between saves, besides every epoch's end.", min=1)
    ] = 200,
    log_every: Annotated[int, typer.Option(help="Steps between rows of log.csv.", min=1)] = 10,
) -> None:
    """Train a model on stream buffers, or fine-tune one with --init.

    Under torchrun the same command trains on several processes.
    """
    given = {
        **{"stage": stage.value if stage and stage is not StageName.all else None},
        **{"config": config},
        **{"model": model, "init": init, "freeze": freeze, "subclips": subclips, "flip": flip},
        **{"frames": frames, "frame_rate": frame_rate, "size": size, "epochs": epochs},
        "init_backbone": init_backbone and [_resolved(text) for text in init_backbone],
        **{"batch": batch, "lr": lr, "precision": precision, "seed": seed, "qat": qat},
        **{key: _value(text) for key, text in pairs(changes).items()},
    }
    import torch

    from movinet_edge.train.loop import TrainOptions
    from movinet_edge.train.parallel import world

    if threads:
        torch.set_num_threads(threads)
    fields = {key: value for key, value in given.items() if value is not None}
    if init is not None and Path(init).exists():
        fields["init"] = str(Path(init).resolve())  # a run may be resumed from elsewhere
    options = TrainOptions(workers, cache, save_every, log_every)
    asked = Asked(recipe, fields, data, val, videos, features, actions, memory_budget)
    _check(task, stage, asked, resume)
    with world(device) as here:
        if stage is StageName.all:
            run_all(asked, out, here, options)
        else:
            run_one(asked, out, here, options, resume)


@dataclass(frozen=True)
class Asked:
    """What the command line says of a run."""

    recipe: str | None
    fields: dict[str, Any]
    data: Path | None
    val: Path | None
    videos: Path | None
    features: Path | None
    actions: Path | None
    memory_budget: float | None


def _check(task: Task, stage: StageName | None, asked: Asked, resume: bool) -> None:
    """Raises: BadInput: options that do not belong together."""
    from movinet_edge.errors import BadInput

    if asked.actions is not None and stage is not StageName.all:
        raise BadInput("--actions is of stage all; name other stages' videos with --data")
    if task is Task.localization:
        if stage is None and not resume and "stage" not in asked.fields and asked.recipe is None:
            raise BadInput("--task localization needs a --stage: acp, lofi, head or all")
        if asked.val is not None:
            raise BadInput("annotations have their splits in --data; leave out --val")
        reduces = {"--config": asked.fields.get("config"), "--memory-budget": asked.memory_budget}
        for name, value in reduces.items():
            if value is not None and stage in (StageName.acp, StageName.head):
                raise BadInput(f"{name} is of stage lofi; leave it out")
        if stage is StageName.all and asked.features is not None:
            raise BadInput("--stage all makes features by itself; leave out --features")
        return
    given: dict[str, object] = {"--stage": stage, "--videos": asked.videos}
    given |= {"--features": asked.features, "--config": asked.fields.get("config")}
    given["--memory-budget"] = asked.memory_budget
    for name, value in given.items():
        if value is not None and not resume:
            raise BadInput(f"{name} is of localization; add --task localization")


def run_all(asked: Asked, out: Path, here: World, options: TrainOptions) -> None:
    """Every stage in a folder of its own, from what the one before arrived at.

    Stages that are done are not done again, and one that was stopped goes on.

    Raises:
        BadInput: they began otherwise than is asked now.
    """
    from movinet_edge.cli.console import note
    from movinet_edge.errors import BadInput
    from movinet_edge.train.run_folder import BEST, RUN, RunFolder

    if asked.recipe is None:
        raise BadInput("--stage all needs --recipe NAME, of NAME-acp, NAME-lofi and NAME-head")
    start: dict[str, Any] = {}
    for stage in ("acp", "lofi", "head"):
        place = out / stage
        done, again = place / "done", (place / RUN).exists()
        name, fields = f"{asked.recipe}-{stage}", asked.fields | {"stage": stage} | start
        if again:
            running = RunFolder(place).record().recipe
            # Perhaps a memory budget chose it.
            fields = {"reduction": running.reduction} | fields
        if done.exists():
            _same_recipe(running, name, fields)
            if here.leads:
                note(f"{place} is done")
        else:
            one = replace(asked, recipe=name, fields=fields)
            if stage == StageName.acp and asked.actions is not None:
                one = replace(one, data=asked.actions, videos=None)
            run_one(one, place, here, options, again)
            if here.leads:
                done.touch()
            here.total(0)  # wait for the one that writes
        start = {"init": str((place / BEST).resolve())}


def run_one(asked: Asked, out: Path, here: World, options: TrainOptions, resume: bool) -> None:
    """Train to the end."""
    from movinet_edge.cli.console import note
    from movinet_edge.cli.console import out as console
    from movinet_edge.errors import BadInput
    from movinet_edge.train.recipe import read_recipe
    from movinet_edge.train.run_folder import BEST, RunFolder, RunRecord

    folder = RunFolder(out)
    begun = folder.record() if resume else None
    if begun is not None:
        chosen = _same_recipe(begun.recipe, asked.recipe, asked.fields)
        was = {key: Path(text) for key in PLACES if (text := getattr(begun, key)) is not None}
        asked = replace(asked, **(was | {k: v for k in PLACES if (v := getattr(asked, k))}))
    else:
        folder.check_new()
        chosen = read_recipe(asked.recipe, asked.fields)
    if asked.data is None:
        raise BadInput("say where the videos are with --data")
    if begun is None and chosen.stage == "lofi":
        chosen = _reduced(chosen, asked, here)
    trainer = _trainer(chosen, asked, folder, here, options)
    if begun is not None:
        trainer.resume()
    elif here.leads:
        places = {k: str(v.resolve()) for k in PLACES if (v := getattr(asked, k)) is not None}
        folder.begin(RunRecord(recipe=chosen, **places))
    with _progress(here.leads) as tell:
        try:
            record = trainer.run(tell)
        except KeyboardInterrupt:
            note(f"stopped; movinet-edge train --out {out} --resume goes on")
            raise
    if here.leads:
        if record is not None:
            console().print(
                f"validation {record.score_name} {record.score:.1%} of {record.videos} videos"
            )
        console().print(f"wrote {out / BEST}", highlight=False, soft_wrap=True)


PLACES = ("data", "val", "videos", "features")


def _trainer(
    chosen: Recipe, asked: Asked, folder: RunFolder, here: World, options: TrainOptions
) -> Loop[Any]:
    from movinet_edge.cli.console import bar, note
    from movinet_edge.train.localization_data import Places, localization_trainer
    from movinet_edge.train.trainer import Trainer

    assert asked.data is not None
    say = note if here.leads else None
    # A folder of classes, not annotations, has the actions of other videos.
    classes = chosen.stage == "acp" and asked.data.is_dir() and asked.videos is None
    if chosen.stage is None or classes:
        found, held_out = _videos(asked.data, asked.val)
        if here.leads and found.missing:
            note(f"{len(found.missing)} videos that {asked.data} names are not there")
        return Trainer(chosen, found, held_out, folder, here, options, say)
    places = Places(asked.data, asked.videos, asked.features)
    if not here.leads:
        return localization_trainer(chosen, places, folder, here, options)
    with bar("features") as update:
        return localization_trainer(chosen, places, folder, here, options, say, update)


def _reduced(chosen: Recipe, asked: Asked, here: World) -> Recipe:
    """The recipe with a reduction that fits; what steps need is said."""
    from movinet_edge.cli.console import note
    from movinet_edge.train.dry_run import fitted
    from movinet_edge.train.localization_data import Places, split_annotations
    from movinet_edge.train.localizing import localizer_start

    assert asked.data is not None
    Places(asked.data, asked.videos).video_folder("lofi")  # there, before anything is measured
    train, _ = split_annotations(asked.data)
    start = localizer_start(chosen, train.labels)
    videos = max(min(chosen.batch, len(train.videos)) // here.size, 1)
    say = note if here.leads else lambda text: None
    return fitted(chosen, start, videos, here.device, asked.memory_budget, say)


def _resolved(text: str) -> str:
    """``PLACE=FILE`` with the whole path of the file: a run may be resumed from elsewhere."""
    place, equals, file = text.partition("=")
    return f"{place}={Path(file).resolve()}" if equals else text


def _value(text: str) -> Any:
    """A TOML value (a number, true, a [list]) or, where it is none, a plain word."""
    import tomllib

    try:
        return tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        return text


def _same_recipe(running: Recipe, name: str | None, fields: dict[str, Any]) -> Recipe:
    """The recipe of a run to resume, if nothing asked for differs from it."""
    from movinet_edge.errors import BadInput
    from movinet_edge.train.recipe import make_recipe, read_recipe

    asked = read_recipe(name, fields) if name else make_recipe(running.model_dump() | fields)
    if different := asked.changes_from(running):
        raise BadInput(
            f"the run began with another recipe ({', '.join(different)}); resume it as it was, or "
            "start a new run with --out"
        )
    return running


def _videos(data: Path, val: Path | None) -> tuple[VideoSet, VideoSet | None]:
    """Training and validation videos, of the same classes."""
    from movinet_edge.data.listing import read_video_set
    from movinet_edge.data.sources import read_source
    from movinet_edge.errors import BadInput

    found = read_source(data)
    train = found.first_of("train")
    if train is None and found.first_of("val", "test"):
        raise BadInput(f"{data} has splits but none to train on; name one of them train")
    videos = read_video_set(found, train)
    if val is not None:
        others = read_source(val)
        return videos, read_video_set(others, others.first_of("val", "test"), videos.labels)
    held_out = found.first_of("val")
    return videos, read_video_set(found, held_out, videos.labels) if held_out else None


@contextmanager
def _progress(leads: bool) -> Iterator[Callable[[Progress], None]]:
    """A bar over all steps, and a line for every epoch."""
    from movinet_edge.cli.console import bar, err

    if not leads:
        yield lambda progress: None
        return
    with bar("train") as update:

        def tell(now: Progress) -> None:
            update(now.step, now.steps, f"epoch {now.epoch + 1}, loss {now.loss:.3f}")
            if now.ends_epoch:
                val = f", validation {now.val.score_name} {now.val.score:.1%}" if now.val else ""
                text = f"epoch {now.epoch + 1}: loss {now.loss:.3f}{val}"
                err().print(text, highlight=False, soft_wrap=True)

        yield tell
