"""``movinet-edge evaluate --task localization``: where are the actions in long videos?"""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from movinet_edge.data.annotations import EARLY, EMPTY, LATE_END, OUTSIDE

if TYPE_CHECKING:
    import numpy as np
    from rich.table import Table

    from movinet_edge.data.annotations import AnnotationSet
    from movinet_edge.localization.reading import Found
    from movinet_edge.train.localization_eval import LocalizationRecord, Measures


# What became of segments by their kind; one by one they are named when annotations are checked.
FINDINGS = {
    EMPTY: "no length, left out",
    OUTSIDE: "outside of their videos, kept",
    EARLY: "begin before their videos, kept",
    LATE_END: "end after their videos, kept",
}


@dataclass(frozen=True)
class Asked:
    """What the command line says."""

    data: Path
    videos: Path | None
    features: Path | None
    class_scores: Path | None
    split: str | None
    limit: int | None
    threads: int | None
    device: str | None = None
    backend: str | None = None
    precision: str | None = None


def evaluate_segments(source: Path, bundle: bool, asked: Asked, json_file: Path | None) -> None:
    """Evaluate a checkpoint or a bundle and print the record.

    Raises:
        BadInput: what is missing, unreadable or does not fit together.
    """
    from movinet_edge.cli.console import note, out
    from movinet_edge.errors import BadInput
    from movinet_edge.files import text_file

    if (asked.videos is None) == (asked.features is None):
        raise BadInput("name either the folder of the videos (--videos) or of --features")
    with ExitStack() as stack:
        write = stack.enter_context(text_file(json_file)) if json_file else None
        record = (_bundle_record if bundle else _checkpoint_record)(source, asked)
        if write is not None:
            write(record.model_dump_json(indent=1) + "\n")
    for line in _left_out(record):
        note(line)
    split = f", {record.split}" if record.split else ""
    heading = f"{record.model}, {record.engine}; {record.data}{split}"
    out().print(heading, highlight=False, soft_wrap=True)
    out().print(table(record))
    if record.activitynet is not None:
        out().print(_classes(record.activitynet))
    if json_file is not None:
        out().print(f"wrote {json_file}", highlight=False, soft_wrap=True)


def _checkpoint_record(source: Path, asked: Asked) -> LocalizationRecord:
    import torch

    from movinet_edge.checkpoints.importer import read_checkpoint
    from movinet_edge.cli.console import bar
    from movinet_edge.data.class_scores import read_class_scores
    from movinet_edge.data.features import FeatureFolder
    from movinet_edge.data.snippets import VideoFolder
    from movinet_edge.errors import BadInput
    from movinet_edge.models.localizer import Localizer
    from movinet_edge.train.localization_data import (
        check_encoder,
        covered,
        extractor_of,
        feature_source,
        video_source,
        windows_need_features,
    )
    from movinet_edge.train.localization_eval import Finder, evaluate_localizer
    from movinet_edge.train.parallel import world

    if asked.threads is not None:
        torch.set_num_threads(asked.threads)
    checkpoint = read_checkpoint(source)
    model = checkpoint.model
    if not isinstance(model, Localizer):
        raise BadInput(
            f"{source} is a {model.arch.name}, which finds no segments; name a localizer, or leave "
            "out --task"
        )
    annotations, split = _annotations(asked, checkpoint.labels)
    with world(asked.device) as here:
        model.to(here.device)
        file, scores = asked.class_scores, None
        if file is not None:
            scores = read_class_scores(file, annotations.labels)
        finder = Finder(model, class_scores=scores)
        if asked.features is not None:
            features = FeatureFolder(asked.features, model.arch.head.features)
            check_encoder(asked.features, model)
            annotations = covered(annotations, asked.features)
            reader = feature_source(features)
        else:
            assert asked.videos is not None
            if finder.convention.windowed:
                raise BadInput(windows_need_features(model.arch.name))
            reader = video_source(extractor_of(checkpoint, here.device), VideoFolder(asked.videos))
        facts = {
            "model": model.arch.name,
            "engine": f"torch {torch.__version__}",
            "split": split,
            "snippets": finder.snippets,
        }
        with bar("evaluate") as update:
            return evaluate_localizer(finder, annotations, reader, facts, update)


def _bundle_record(source: Path, asked: Asked) -> LocalizationRecord:
    from movinet_edge.bundle import Bundle
    from movinet_edge.cli.console import bar
    from movinet_edge.data.features import FeatureFolder, rescaled
    from movinet_edge.data.snippets import VideoFolder
    from movinet_edge.errors import BadInput
    from movinet_edge.runtime.segments import SegmentStream
    from movinet_edge.train.localization_data import (
        bundle_source,
        check_bundled_encoder,
        covered,
        feature_source,
    )
    from movinet_edge.train.localization_eval import evaluate_localizer

    if asked.class_scores is not None:
        raise BadInput("a bundle classifies what it finds; leave out --class-scores")
    bundle = Bundle(source)
    manifest = bundle.manifest
    if manifest.localization is None:
        raise BadInput(f"{source} classifies and finds no segments; leave out --task")
    with SegmentStream(bundle, asked.backend, asked.precision, asked.threads or 1) as stream:
        annotations, split = _annotations(asked, bundle.labels)
        if asked.features is not None:
            check_bundled_encoder(asked.features, bundle)
            annotations = covered(annotations, asked.features)
            features = FeatureFolder(asked.features, stream.head.input.shape[1])
            reader = feature_source(features)
        else:
            assert asked.videos is not None
            reader = bundle_source(stream, VideoFolder(asked.videos))

        def locate(values: np.ndarray, seconds: float, name: str) -> Found:
            if stream.rule.whole:
                values = rescaled(values, stream.rule.snippets).numpy().T
            live = asked.videos is not None and not stream.rule.whole
            first = stream.begins(0) if live else 0.0
            return stream.head.find(values, seconds / len(values), first)

        facts = {
            "model": manifest.name,
            "engine": f"{stream.backend.name} {stream.version}",
            "split": split,
            "snippets": stream.rule.snippets,
        }
        with bar("evaluate") as update:
            return evaluate_localizer(locate, annotations, reader, facts, update)


def _annotations(asked: Asked, labels: list[str] | None) -> tuple[AnnotationSet, str | None]:
    """Of the split that was asked for, or test, or val, or all."""
    from movinet_edge.data.annotation_files import read_raw
    from movinet_edge.data.annotations import read_annotations

    has = {video.split for video in read_raw(asked.data) if any(video.actions)}
    split = asked.split or next((name for name in ("test", "val") if name in has), None)
    known = labels or read_annotations(asked.data).labels
    found = read_annotations(asked.data, split, known)
    if asked.limit is None or asked.limit >= len(found.videos):
        return found, split
    count = len(found.videos)
    spread = (found.videos[i * count // asked.limit] for i in range(asked.limit))
    return replace(found, videos=tuple(spread)), split


def _left_out(record: LocalizationRecord) -> list[str]:
    """Which videos did not take part, each once, and what was noticed in annotations."""
    lines = [f"{one.video} is left out: {one.reason}" for one in record.broken]
    if record.missing:
        names = ", ".join(record.missing[:3]) + (", ..." if len(record.missing) > 3 else "")
        lines.append(f"{len(record.missing)} annotated videos are not there ({names})")
    lines += [f"{count} segments: {FINDINGS[kind]}" for kind, count in record.findings.items()]
    if not record.proposals:
        lines.append("nothing was found in any of the videos")
    return lines


def table(record: LocalizationRecord) -> Table:
    """The record's measures."""
    from rich.box import SIMPLE_HEAD
    from rich.table import Table

    rows = {
        "videos": f"{record.videos}",
        "left out": f"{len(record.missing) + len(record.broken)}",
        "actions": f"{record.actions}",
        "proposals per video": f"{record.proposals:.1f}",
    }
    rows |= {name: f"{value:.1%}" for name, value in record.recall.items()}
    rows["AUC"] = f"{record.area:.1%}"
    for measures in (record.activitynet, record.thumos):
        if measures is None:
            continue
        limits = measures.thresholds
        shown = (0, len(limits) // 2, len(limits) - 1)
        rows |= {f"mAP at {limits[k]:.2f}": f"{measures.map[k]:.1%}" for k in shown}
        rows[f"mAP {limits[0]:.2f} to {limits[-1]:.2f}"] = f"{measures.average:.1%}"
    made = Table("", "", box=SIMPLE_HEAD, show_header=False)
    made.columns[1].justify = "right"
    for name, value in rows.items():
        made.add_row(name, value)
    return made


def _classes(measures: Measures) -> Table:
    from rich.box import SIMPLE_HEAD
    from rich.table import Table

    made = Table("class", "AP over all thresholds", box=SIMPLE_HEAD)
    made.columns[1].justify = "right"
    for name, value in measures.per_class.items():
        made.add_row(name, f"{value:.1%}")
    return made
