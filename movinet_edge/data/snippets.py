"""Snippets all over a video, by timestamps: what an encoder sees of an untrimmed video."""

from __future__ import annotations

from collections.abc import Callable
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from movinet_edge.bundle import Preprocessing
from movinet_edge.data.features import PREFIX
from movinet_edge.data.sources import videos_below
from movinet_edge.errors import BadInput
from movinet_edge.runtime.preprocess import fill
from movinet_edge.runtime.snippets import length_of, read_snippets, snippet_times
from movinet_edge.runtime.video import upright

__all__ = ["VideoFolder", "as_seen", "length_of", "read_snippets", "snippet_times"]


def as_seen(contract: Preprocessing) -> Callable[[Any], np.ndarray]:
    """What the runtime makes of a decoded frame: float32 [3, H, W] in [0, 1]."""

    def take(frame: Any) -> np.ndarray:
        image = np.empty((contract.height, contract.width, 3), np.float32)
        fill(image, upright(frame), contract)
        return image.transpose(2, 0, 1)

    return take


class VideoFolder:
    """Videos by the names that annotations have for them, anywhere below a folder.

    A name is a path, with or without its suffix, or that of a file in any folder (HACS has one
    for each class); it may begin with ``v_`` there or not.

    Raises:
        BadInput: there is no such folder, or no video in it.
    """

    def __init__(self, folder: Path):
        self.folder = folder
        if not folder.is_dir():
            raise BadInput(f"there is no folder of videos at {folder}; name one with --videos")
        if not self._files:
            raise BadInput(f"{folder} has no videos; put them there or name another folder")

    @cached_property
    def _files(self) -> dict[str, Path]:
        found: dict[str, Path] = {}
        for path in videos_below(self.folder):
            whole = path.relative_to(self.folder)
            # What names a file more closely wins.
            for name in (whole.as_posix(), whole.with_suffix("").as_posix()):
                found[name] = path
            for name in (path.name, path.stem):
                found.setdefault(name, path)
        return found

    def find(self, video: str) -> Path | None:
        bare = video.removeprefix(PREFIX)
        names = (video, bare, PREFIX + bare)
        return next((self._files[name] for name in names if name in self._files), None)
