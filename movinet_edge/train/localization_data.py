"""A run of localization from paths: annotations, videos, features."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from movinet_edge.bundle import Bundle, Preprocessing
from movinet_edge.checkpoints.native import Checkpoint, load_checkpoint
from movinet_edge.data.annotation_files import read_raw
from movinet_edge.data.annotations import AnnotationSet, UntrimmedVideo, read_annotations
from movinet_edge.data.features import FeatureFolder, width_of, with_features
from movinet_edge.data.localization import action_clips
from movinet_edge.data.snippets import VideoFolder
from movinet_edge.errors import BadInput
from movinet_edge.localization.conventions import convention_of
from movinet_edge.models.encoder import Encoder
from movinet_edge.models.localizer import Localizer
from movinet_edge.models.registry import weights_sha256
from movinet_edge.runtime.segments import SegmentStream
from movinet_edge.train.extraction import (
    FACTS,
    Extractor,
    FeatureFacts,
    extract,
    read_facts,
    seconds_of,
)
from movinet_edge.train.fidelity import Fidelity
from movinet_edge.train.localization_eval import Source
from movinet_edge.train.localizing import LocalizationTrainer, fidelities, localizer_start
from movinet_edge.train.loop import Loop, TrainOptions
from movinet_edge.train.parallel import World
from movinet_edge.train.recipe import Recipe
from movinet_edge.train.run_folder import FEATURES, RunFolder
from movinet_edge.train.trainer import Trainer

Say = Callable[[str], None]


@dataclass(frozen=True)
class Places:
    """Annotations, and the folders of their videos or of features that were extracted before."""

    data: Path
    videos: Path | None = None
    features: Path | None = None

    def video_folder(self, stage: str) -> VideoFolder:
        """Raises: BadInput: no folder was named."""
        if self.videos is None:
            raise BadInput(f"--stage {stage} needs the videos; name their folder with --videos")
        return VideoFolder(self.videos)


def split_annotations(
    data: Path, say: Say = lambda text: None
) -> tuple[AnnotationSet, AnnotationSet | None]:
    """What is to train on, and what to validate by, if it is there; `say` hears of findings.

    Raises:
        BadInput: as `read_annotations`, or there are splits but none to train on.
    """
    splits = {video.split for video in read_raw(data)}
    # THUMOS14 is trained on what it calls its validation videos.
    chosen = next((split for split in ("train", "val") if split in splits), None)
    if chosen is None and splits != {None}:
        raise BadInput(f"{data} has splits but none to train on; name one of them train")
    labels = read_annotations(data).labels
    train = read_annotations(data, chosen, labels)
    val = read_annotations(data, "val", labels) if {"train", "val"} <= splits else None
    for part in (train, val):
        for finding in part.findings if part else ():
            say(finding.text)
    return train, val


def localization_trainer(
    recipe: Recipe,
    places: Places,
    folder: RunFolder,
    world: World,
    options: TrainOptions,
    say: Say | None = None,
    extracting: Callable[[int, int, str], None] = lambda done, total, name: None,
) -> Loop[Any]:
    """The run of the recipe's stage.

    Stage head extracts features into the run's folder, if there are none.

    Raises:
        BadInput: what is missing, unreadable or does not fit together.
    """
    tell = say or (lambda text: None)
    train, val = split_annotations(places.data, tell)
    if recipe.stage == "acp":
        videos = places.video_folder("acp")
        clips = action_clips(train, videos)
        if clips.missing:
            tell(f"{len(clips.missing)} videos that {places.data} names are not there")
        held = action_clips(val, videos) if val is not None and _there(val, videos) else None
        return Trainer(recipe, clips, held, folder, world, options, say)
    if recipe.stage == "lofi":
        videos = places.video_folder("lofi")
        start = localizer_start(recipe, train.labels)
        check = None
        if val is not None and _there(val, videos):
            plan = fidelities(recipe, start)[0]
            check = (val, lambda model: reduced_source(model, start, videos, plan))
        there = _present(train, videos, tell)
        return LocalizationTrainer(recipe, start, there, videos, check, folder, world, options, say)
    return _head(recipe, places, (train, val), folder, world, options, tell, extracting)


def _head(
    recipe: Recipe,
    places: Places,
    annotations: tuple[AnnotationSet, AnnotationSet | None],
    folder: RunFolder,
    world: World,
    options: TrainOptions,
    say: Say,
    extracting: Callable[[int, int, str], None],
) -> Loop[Any]:
    train, val = annotations
    where = places.features
    if where is None:
        if recipe.init is None:
            raise BadInput(
                "--stage head needs a trained encoder; name it with --init, or its --features"
            )
        videos = places.video_folder("head")
        if convention_of(recipe.head).windowed:
            raise BadInput(windows_need_features(f"the head {recipe.head}"))
        start = localizer_start(recipe, train.labels)
        where = folder.path / FEATURES
        extractor = extractor_of(start, world.device)
        for part in (train, val):
            if part is not None:
                shard = (world.rank + 1, world.size)
                index = extract(extractor, part, videos, where, shard, extracting)
                _tell_left_out(index, say)
        world.total(0)  # wait for the others
    features = FeatureFolder(where, width_of(where))
    start = localizer_start(recipe, train.labels, features.width)
    check_encoder(where, start.model)
    train, missing = with_features(covered(train, where), features)
    if missing:
        say(f"{len(missing)} videos that {places.data} names have no features in {where}")
    check = None
    if val is not None and any(features.find(video.name) for video in val.videos):
        held = with_features(covered(val, where), features)[0]
        check = (held, lambda model: feature_source(features))
    return LocalizationTrainer(recipe, start, train, features, check, folder, world, options, say)


def windows_need_features(name: str) -> str:
    """Why a head that sees windows is not given videos."""
    return (
        f"{name} takes windows; extract the features with movinet-edge features --every SECONDS "
        "and name them with --features"
    )


def check_encoder(features: Path, model: nn.Module) -> None:
    """Raise `BadInput` if a folder says that another encoder than the model's made its features."""
    assert isinstance(model, Localizer)
    if model.encoder is None or not (features / FACTS).exists():
        return
    if read_facts(features).weights_sha256 != weights_sha256(model.encoder):
        raise BadInput(
            f"the features in {features} were made by other weights than those of the encoder "
            "here; extract them with this one (movinet-edge features)"
        )


def check_bundled_encoder(features: Path, bundle: Bundle) -> None:
    """As `check_encoder`, of the PyTorch model that came with a bundle, if one did."""
    for file in (f for graph in bundle.manifest.graphs for f in graph.files):
        if file.format == "torch":
            check_encoder(features, load_checkpoint(bundle.file(file)).model)


def _tell_left_out(index: dict[str, Any], say: Say) -> None:
    if index["missing"]:
        say(f"{len(index['missing'])} videos are not there (such as {index['missing'][0]})")
    for name, reason in index["broken"].items():
        say(f"{name} is left out: {reason}")


def _there(annotations: AnnotationSet, videos: VideoFolder) -> bool:
    return any(videos.find(video.name) for video in annotations.videos)


def _present(annotations: AnnotationSet, videos: VideoFolder, say: Say) -> AnnotationSet:
    """Those whose videos are there."""
    names = {video.name for video in annotations.videos if videos.find(video.name)}
    if not names:
        raise BadInput(
            f"{videos.folder} has none of the {len(annotations.videos)} videos of "
            f"{annotations.source} (such as {annotations.videos[0].name}); name the folder that "
            "has them"
        )
    if missing := len(annotations.videos) - len(names):
        say(f"{missing} videos that {annotations.source} names are not there")
    return annotations.only(names)


def covered(annotations: AnnotationSet, features: Path) -> AnnotationSet:
    """Videos of which it is known how much their features cover, where the folder's index tells."""
    lengths = seconds_of(features)
    videos = tuple(
        video.model_copy(update={"feature_seconds": lengths.get(video.name, video.feature_seconds)})
        for video in annotations.videos
    )
    return replace(annotations, videos=videos)


# Where features come from ------------------------------------------------------------------


def extractor_of(
    checkpoint: Checkpoint,
    device: torch.device,
    snippets: int | None = None,
    every: float | None = None,
) -> Extractor:
    """Features at full fidelity, by an encoder or that of a localizer.

    Args:
        snippets, every: over a video, or one in so many seconds; default: what the head takes.

    Raises:
        BadInput: there is no encoder.
    """
    model = checkpoint.model
    if isinstance(model, Localizer):
        snippets = snippets or (model.arch.head.snippets if every is None else None)
        encoder = model.encoder
    else:
        encoder = model if isinstance(model, Encoder) else None
    if encoder is None:
        raise BadInput(f"{model.arch.name} gives no features; take an encoder or a localizer")
    if snippets is None and every is None:
        snippets = 100  # as published
    return _extractor(encoder, checkpoint.preprocessing, device, snippets, every)


def _extractor(
    encoder: Encoder,
    contract: Preprocessing,
    device: torch.device,
    snippets: int | None,
    every: float | None = None,
) -> Extractor:
    facts = FeatureFacts(
        encoder=encoder.arch.name,
        weights_sha256=weights_sha256(encoder),
        preprocessing=contract,
        frames=encoder.arch.clip_frames,
        width=encoder.arch.features,
        snippets=snippets,
        every=every,
    )
    return Extractor(encoder.to(device).eval(), facts)


def reduced_source(
    model: Localizer, start: Checkpoint, videos: VideoFolder, plan: Fidelity
) -> Source:
    """Features of videos as a fidelity has them."""
    assert model.encoder is not None
    side = plan.side(start.preprocessing.width)
    contract = start.preprocessing.model_copy(update={"width": side, "height": side})
    device = next(model.parameters()).device
    snippets = plan.snippets(model.arch.head.snippets)
    return video_source(_extractor(model.encoder, contract, device, snippets), videos)


def video_source(extractor: Extractor, videos: VideoFolder) -> Source:
    """Features of videos, made when they are asked for."""

    def read(video: UntrimmedVideo) -> tuple[np.ndarray, float] | None:
        path = videos.find(video.name)
        return None if path is None else extractor(path, video.seconds)

    return read


def bundle_source(stream: SegmentStream, videos: VideoFolder) -> Source:
    """Features of videos, made by a bundle."""

    def read(video: UntrimmedVideo) -> tuple[np.ndarray, float] | None:
        path = videos.find(video.name)
        return None if path is None else stream.features(path, video.seconds)

    return read


def feature_source(features: FeatureFolder) -> Source:
    """Features that were extracted before, of `covered` videos."""

    def read(video: UntrimmedVideo) -> tuple[np.ndarray, float] | None:
        if features.find(video.name) is None:
            return None
        seconds = video.feature_seconds or video.seconds
        if seconds is None:
            raise BadInput(
                f"the length of {video.name} is not known; add its duration to the annotations"
            )
        return features.read(video.name), seconds

    return read
