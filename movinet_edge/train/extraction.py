"""Features of whole videos at full fidelity, on disk: one file per video and an index."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import torch
from pydantic import ValidationError

from movinet_edge.bundle import Preprocessing, Record
from movinet_edge.data.annotations import AnnotationSet, UntrimmedVideo
from movinet_edge.data.features import FeatureFolder
from movinet_edge.data.snippets import (
    VideoFolder,
    as_seen,
    length_of,
    read_snippets,
    snippet_times,
)
from movinet_edge.errors import BadInput
from movinet_edge.files import inside, write_errors, write_text
from movinet_edge.models.encoder import Encoder
from movinet_edge.runtime.video import BadVideo, VideoFile

FACTS, INDEX = "features.json", "index"
TOGETHER = 8  # snippets in one run of the encoder
SAME_LENGTH = 1e-3  # seconds


class FeatureFacts(Record):
    """What features were made of, and how: `snippets` over a video, or one `every` seconds."""

    encoder: str
    weights_sha256: str
    preprocessing: Preprocessing
    frames: int
    width: int
    snippets: int | None = None
    every: float | None = None


class Extractor:
    """Videos to features as `facts` say.

    `encoder` is on its device, in evaluation mode.
    """

    def __init__(self, encoder: Encoder, facts: FeatureFacts):
        self.encoder, self.facts = encoder, facts
        self.device = next(encoder.parameters()).device
        self.take = as_seen(facts.preprocessing)

    def __call__(self, path: Path, seconds: float | None) -> tuple[np.ndarray, float]:
        """Float32 [snippets, width] of a video, and how many seconds they cover.

        Raises:
            BadVideo: unreadable.
        """
        facts = self.facts
        with VideoFile(path, threads=1) as file:
            count, length = self.extent(length_of(file, seconds))
            rate = facts.preprocessing.frame_rate
            times = snippet_times(length, count, facts.frames, rate)
            features = np.empty((count, facts.width), np.float32)
            for numbers, frames in _together(read_snippets(file, times, self.take)):
                features[numbers] = self._encode(frames)
        return features, float(length)

    def extent(self, length: Fraction) -> tuple[int, Fraction]:
        """How many snippets a video of so many seconds has, and how many seconds they cover."""
        if self.facts.snippets is not None:
            return self.facts.snippets, length
        assert self.facts.every is not None
        every = Fraction(str(self.facts.every))  # as it was written
        count = max(int(length / every), 1)
        return count, every * count

    @torch.no_grad()
    def _encode(self, frames: np.ndarray) -> np.ndarray:
        vectors = self.encoder.snippets(torch.from_numpy(frames).to(self.device))
        encoded: np.ndarray = vectors.float().cpu().numpy()
        return encoded


def _together(
    snippets: Iterator[tuple[int, np.ndarray]],
) -> Iterator[tuple[list[int], np.ndarray]]:
    numbers: list[int] = []
    frames: list[np.ndarray] = []
    for number, pictures in snippets:
        numbers.append(number)
        frames.append(pictures)
        if len(numbers) == TOGETHER:
            yield numbers, np.stack(frames)
            numbers, frames = [], []
    if numbers:
        yield numbers, np.stack(frames)


def extract(
    extractor: Extractor,
    annotations: AnnotationSet,
    videos: VideoFolder,
    out: Path,
    shard: tuple[int, int] = (1, 1),
    progress: Callable[[int, int, str], None] = lambda done, total, name: None,
) -> dict[str, Any]:
    """Features of the shard's videos into `out`; those that are there already are kept.

    A file appears when it is whole, so that a killed extraction is gone on with by calling it
    again. Returns the shard's index: for each video its file, snippets and length in seconds, and
    which videos are missing or broken.

    Args:
        shard: the I-th of N, from 1 on.

    Raises:
        BadInput: `out` has features that were made otherwise, or cannot be written.
    """
    number, shards = shard
    own = annotations.videos[number - 1 :: shards]
    _claim(out, extractor.facts)
    known = seconds_of(out)
    folder = FeatureFolder(out, extractor.facts.width)
    index: dict[str, Any] = {"videos": {}, "missing": [], "broken": {}}
    with _work_folder(out, shard) as work:
        for done, video in enumerate(own):
            progress(done, len(own), video.name)
            path = videos.find(video.name)
            if path is None:
                index["missing"].append(video.name)
                continue
            try:
                before = known.get(video.name)
                index["videos"][video.name] = _one(extractor, video, path, folder, work, before)
            except BadVideo as error:
                index["broken"][video.name] = str(error).removeprefix(f"{path} ")
        progress(len(own), len(own), "")
    name = INDEX if shards == 1 else f"{INDEX}-{number}-of-{shards}"
    path = out / f"{name}.json"
    whole = _with_others(index, path, {video.name for video in own})
    write_text(path, json.dumps(whole, indent=1) + "\n")
    return index


def _with_others(index: dict[str, Any], path: Path, own: set[str]) -> dict[str, Any]:
    """The index and what its file says of other videos, such as those of another split."""
    if not path.exists():
        return index
    known = _read_index(path)
    return {
        "videos": {k: v for k, v in known["videos"].items() if k not in own} | index["videos"],
        "missing": [name for name in known["missing"] if name not in own] + index["missing"],
        "broken": {k: v for k, v in known["broken"].items() if k not in own} | index["broken"],
    }


def _read_index(path: Path) -> dict[str, Any]:
    try:
        index = json.loads(path.read_text("utf-8"))
        index = {"videos": dict(index["videos"])} | {
            "missing": list(index["missing"]),
            "broken": dict(index["broken"]),
        }
        for entry in index["videos"].values():
            entry["seconds"] = float(entry["seconds"])
    except (ValueError, KeyError, TypeError):
        raise BadInput(
            f"{path} is damaged; remove it and run movinet-edge features again"
        ) from None
    return index


def _claim(out: Path, facts: FeatureFacts) -> None:
    """Say what the folder's features are of, unless it says so itself.

    Raises:
        BadInput: they are of something else.
    """
    path = out / FACTS
    if not path.exists():
        if out.exists() and any(out.rglob("*.npy")):
            raise BadInput(f"{out} has features that others made; choose another --out")
        # Another shard may be about to say it.
        if out.is_dir() and any(p.name != FACTS and p.name[0] != "." for p in out.iterdir()):
            raise BadInput(f"{out} has other files and no features; choose another --out")
        write_text(path, facts.model_dump_json(indent=1) + "\n")
        return
    known = read_facts(out)
    if known != facts:
        mine, theirs = facts.model_dump(), known.model_dump()
        other = [f"{k} {theirs[k]} -> {v}" for k, v in mine.items() if v != theirs[k]]
        if mine.pop("weights_sha256") != theirs.pop("weights_sha256"):
            other = ["by other weights"]
        raise BadInput(
            f"the features in {out} were made otherwise ({'; '.join(other)}); choose another --out"
        )


def read_facts(folder: Path) -> FeatureFacts:
    """What the features of a folder are of.

    Raises:
        BadInput: it does not say so, or is damaged.
    """
    try:
        return FeatureFacts.model_validate_json((folder / FACTS).read_bytes())
    except OSError:
        raise BadInput(f"{folder} has no {FACTS}; make it with movinet-edge features") from None
    except ValidationError:
        raise BadInput(f"{folder / FACTS} is damaged; extract the features again") from None


@contextmanager
def _work_folder(out: Path, shard: tuple[int, int]) -> Iterator[Path]:
    """Where files lie until they are whole; what a killed extraction left there goes."""
    work = out / f".shard-{shard[0]}-of-{shard[1]}"
    with write_errors(out):
        shutil.rmtree(work, ignore_errors=True)
        work.mkdir(parents=True)
    try:
        yield work
    finally:
        shutil.rmtree(work, ignore_errors=True)


def _one(
    extractor: Extractor,
    video: UntrimmedVideo,
    path: Path,
    folder: FeatureFolder,
    work: Path,
    known: float | None,
) -> dict[str, Any]:
    """The index's entry of a video, whose features are made unless they are there.

    `known` is how many seconds those cover, if an index tells: not those of another length.
    """
    try:
        target = folder.folder / inside(f"{video.name}.npy")
    except ValueError:
        raise BadInput(f"the video name {video.name!r} leads out of --out; rename it") from None
    extent = _extent(extractor, video, path) if target.exists() else None
    if extent is None or not _holds(folder, video.name, extent, known):
        features, length = extractor(path, video.seconds)
        extent = len(features), length
        with write_errors(target):
            np.save(work / "features.npy", features)
            target.parent.mkdir(parents=True, exist_ok=True)
            (work / "features.npy").replace(target)
    count, length = extent
    return {"file": f"{video.name}.npy", "snippets": count, "seconds": length}


def _extent(extractor: Extractor, video: UntrimmedVideo, path: Path) -> tuple[int, float]:
    """How many snippets a video is to have, and the seconds that they cover."""
    with VideoFile(path, threads=1) as file:
        count, length = extractor.extent(length_of(file, video.seconds))
    return count, float(length)


def _holds(
    folder: FeatureFolder, video: str, extent: tuple[int, float], known: float | None
) -> bool:
    """Whether the file of a video is whole and of this extent, as far as is `known`."""
    count, length = extent
    try:
        whole = len(folder.read(video)) == count
    except BadInput:
        return False
    return whole and (known is None or abs(known - length) <= SAME_LENGTH)


def seconds_of(folder: Path) -> dict[str, float]:
    """How much of every video the features of a folder cover, as its indices tell; perhaps none."""
    found: dict[str, float] = {}
    for path in sorted(folder.glob(f"{INDEX}*.json")):
        entries = _read_index(path)["videos"]
        found |= {name: entry["seconds"] for name, entry in entries.items()}
    return found
