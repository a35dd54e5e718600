"""Features of videos that were extracted before: one ``.npy`` per video, [snippets, features]."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F

from movinet_edge.data.annotations import AnnotationSet
from movinet_edge.errors import BadInput

PREFIX = "v_"  # ActivityNet's names have it or not


@dataclass(frozen=True)
class FeatureFolder:
    """A folder of ``<video>.npy``, each with `width` features per snippet."""

    folder: Path
    width: int

    def find(self, video: str) -> Path | None:
        """The file of a video, whose name may begin with ``v_`` here or there."""
        bare = video.removeprefix(PREFIX)
        paths = (self.folder / f"{name}.npy" for name in (video, bare, PREFIX + bare))
        return next((path for path in paths if path.is_file()), None)

    def read(self, video: str) -> np.ndarray:
        """Features of a video, float32 [snippets, width].

        Raises:
            BadInput: missing, damaged, of another shape, without snippets, or not finite.
        """
        path = self.find(video)
        if path is None:
            raise BadInput(f"{self.folder} has no features of {video} ({video}.npy)")
        try:
            values = np.load(path, allow_pickle=False)
        except (OSError, ValueError, EOFError) as error:
            raise BadInput(f"{path} is damaged or no .npy file; extract it again") from error
        if not isinstance(values, np.ndarray) or values.dtype.kind != "f" or values.ndim != 2:
            raise BadInput(f"{path} holds no features [snippets, {self.width}]; extract it again")
        if values.shape[1] != self.width:
            raise BadInput(self._other_width(path, values.shape))
        if not len(values):
            raise BadInput(f"{path} has no snippets; extract it again")
        if not np.isfinite(values).all():
            raise BadInput(f"{path} holds NaN or infinite features; extract it again")
        return values.astype(np.float32)

    def _other_width(self, path: Path, shape: tuple[int, ...]) -> str:
        if shape[0] == self.width:
            return (
                f"{path} is {list(shape)}, features first; transpose it to [snippets, {self.width}]"
            )
        return (
            f"{path} has {shape[1]} features per snippet, not {self.width}; extract it with the "
            "encoder that the head belongs to"
        )


def width_of(folder: Path) -> int:
    """How many features a snippet has in a folder, by the first file there.

    Raises:
        BadInput: there is none, or it cannot be read.
    """
    # What begins with a dot is in the making.
    paths = (p for p in folder.rglob("*.npy") if not p.relative_to(folder).parts[0].startswith("."))
    path = min(paths, default=None)
    if path is None:
        raise BadInput(f"there are no features (*.npy) in {folder}; name a folder that has some")
    try:
        shape = np.load(path, mmap_mode="r", allow_pickle=False).shape
    except (OSError, ValueError, EOFError) as error:
        raise BadInput(f"{path} is damaged or no .npy file; extract it again") from error
    if len(shape) != 2:
        raise BadInput(f"{path} holds no features [snippets, features]; extract it again")
    return int(shape[1])


def rescaled(features: np.ndarray, snippets: int) -> torch.Tensor:
    """[any number, features] -> float32 [features, snippets], interpolated where they differ.

    Fewer than `snippets` are stretched, more are thinned out, as published (half-pixel centres).
    """
    values = torch.from_numpy(np.ascontiguousarray(features.T))[None]
    return F.interpolate(values, snippets, mode="linear", align_corners=False)[0]


def with_features(
    annotations: AnnotationSet, features: FeatureFolder
) -> tuple[AnnotationSet, tuple[str, ...]]:
    """The videos that have a file of features, and the names of those that have none.

    Raises:
        BadInput: none has one.
    """
    names = [video.name for video in annotations.videos]
    present = {name for name in names if features.find(name) is not None}
    if not present:
        raise BadInput(
            f"{features.folder} has features of none of the {len(names)} videos of "
            f"{annotations.source} (such as {names[0]}.npy); extract them or name another folder"
        )
    return annotations.only(present), tuple(name for name in names if name not in present)
