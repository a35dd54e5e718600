"""Videos to calibrate on: whole streams in order, for ranges of activations depend on the past."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import numpy as np

from movinet_edge.bundle import Preprocessing
from movinet_edge.data.sources import SUFFIXES, read_source, videos_below
from movinet_edge.errors import BadInput
from movinet_edge.runtime.preprocess import fill
from movinet_edge.runtime.video import BadVideo, read_frames

# With 36 frames of real clips ranges were too narrow; a few hundred are enough.
FEWEST = 100


@dataclass(frozen=True)
class Stream:
    """A video as the model is fed: iterating gives frames float32 [1, H, W, 3] in [0, 1].

    `images` are its frames, uint8 [T, H, W, 3].
    """

    images: np.ndarray

    def __iter__(self) -> Iterator[np.ndarray]:
        return (image[None].astype(np.float32) / np.float32(255) for image in self.images)

    def __len__(self) -> int:
        return len(self.images)


def calibration_streams(
    source: Path, contract: Preprocessing, frames: int, delay: int = 0
) -> list[Stream]:
    """About `frames` frames of videos at the model's frame rate and size.

    Videos are taken in a fixed random order, so that classes mix, and of each no more than twice
    its share. Unreadable ones are left out.

    Args:
        source: a video, a folder with videos anywhere below, or a list (.txt, .csv); of a data set
            with splits the videos to train on.
        delay: of the model's answers, in frames; videos are taken beyond it.

    Raises:
        BadInput: there are no videos, or too few frames.
    """
    paths = _videos(source)
    order = np.random.default_rng(0).permutation(len(paths))
    share, streams, count = max(16 + 2 * delay, 2 * frames // len(paths)), [], 0
    for number in order:
        try:
            images = _images(paths[number], contract, min(share, frames - count))
        except BadVideo:
            continue
        if len(images):
            streams.append(Stream(images))
            count += len(images)
        if count >= frames:
            break
    if count < min(FEWEST, frames):
        raise BadInput(
            f"{source} gives {count} frames at {contract.frame_rate:g} per second, and calibration "
            f"needs {min(FEWEST, frames)} or more; give more videos with --calibrate"
        )
    return streams


def _videos(source: Path) -> list[Path]:
    if not source.exists():
        raise BadInput(f"there are no calibration videos at {source}; name a folder or a list")
    if source.suffix.lower() in SUFFIXES:
        found = [source]
    elif source.is_dir() and not _has_training_split(source):
        found = videos_below(source)  # of any layout
    else:
        named = read_source(source)
        split = named.first_of("train")
        found = [r.path for r in named.rows if r.path is not None and split in (None, r.split)]
    if not found:
        raise BadInput(f"{source} has no calibration videos; name a folder or list that has some")
    return found


def _has_training_split(folder: Path) -> bool:
    try:
        return "train" in read_source(folder).splits
    except BadInput:  # no folders of classes
        return False


def _images(path: Path, contract: Preprocessing, most: int) -> np.ndarray:
    """The first `most` frames uint8 [T, H, W, 3] as the model sees them."""
    shape = contract.height, contract.width, 3
    images = []
    for frame in islice(read_frames(path, contract.frame_rate), most):
        image = np.empty(shape, np.uint8)
        fill(image, frame.image, contract)
        images.append(image)
    return np.stack(images) if images else np.empty((0, *shape), np.uint8)
