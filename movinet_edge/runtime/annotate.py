"""Write a video with the answers drawn on it (PyAV, Pillow)."""

from __future__ import annotations

import contextlib
from pathlib import Path
from types import TracebackType
from typing import Any

import av
import av.error
import numpy as np

from movinet_edge.errors import BadInput
from movinet_edge.files import NewFile, describe_os_error
from movinet_edge.runtime.stream import Prediction
from movinet_edge.runtime.video import exact_rate

MIN_WIDTH = 480  # small clips are enlarged so that the text stays readable


class AnnotatedVideo:
    """An H.264 mp4 at the bundle's frame rate; appears at `path` only when complete.

    Raises:
        BadInput: Pillow is not installed, the suffix is not .mp4, or the place cannot be written.
    """

    def __init__(self, path: Path, frame_rate: float, top_k: int):
        try:
            import PIL  # noqa: F401
        except ImportError:
            raise BadInput("--save draws with Pillow; pip install 'movinet-edge[video]'") from None
        if path.suffix != ".mp4":
            raise BadInput(f"--save writes mp4 files; name it {path.with_suffix('.mp4')}")
        self.path, self.top_k = path, top_k
        self._rate = exact_rate(frame_rate)
        self._stream: Any = None
        self._new = NewFile(path)
        # A file of ours: one that PyAV opens stays open when the disk is full.
        self._file = self._new.work.open("wb")
        self._container: Any = av.open(self._file, "w", format="mp4")

    def add(self, image: np.ndarray, answer: Prediction | None) -> None:
        """Append one frame, uint8 RGB [H, W, 3], with its answer."""
        picture = draw(image, answer, self.top_k)
        if self._stream is None:
            self._stream = self._container.add_stream("libx264", rate=self._rate)
            self._stream.height, self._stream.width = picture.shape[:2]
            self._stream.pix_fmt = "yuv420p"
        self._mux(av.VideoFrame.from_ndarray(picture, format="rgb24"))

    def _mux(self, frame: Any) -> None:
        try:
            for packet in self._stream.encode(frame):
                self._container.mux(packet)
        except (av.error.FFmpegError, OSError) as error:
            raise BadInput(describe_os_error(_as_os_error(error), self.path)) from error

    def __enter__(self) -> AnnotatedVideo:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        try:
            if kind is None and self._stream is not None:
                self._mux(None)
            self._container.close()
            self._file.close()
            if kind is None and self._stream is not None:
                self._new.keep()
        except (av.error.FFmpegError, OSError) as failed:
            if kind is None:
                raise BadInput(describe_os_error(_as_os_error(failed), self.path)) from failed
        finally:
            with contextlib.suppress(OSError):
                self._file.close()
            self._new.discard()


def draw(image: np.ndarray, answer: Prediction | None, top_k: int) -> np.ndarray:
    """The frame, enlarged to even sides, with bars for the top classes in its lower left."""
    from PIL import Image, ImageDraw, ImageFont

    scale = max(1.0, MIN_WIDTH / image.shape[1])
    height, width = (int(side * scale) // 2 * 2 for side in image.shape[:2])
    picture = Image.fromarray(image).resize((width, height))
    if answer is not None:
        size = max(12, width // 32)
        font = ImageFont.load_default(size)
        layer = ImageDraw.Draw(picture, "RGBA")
        top = answer.top(min(top_k, height // (size + 8)))
        y = height - (size + 6) * len(top) - 6
        for score in top:
            bar = int((width * 0.6) * score.score)
            layer.rectangle((6, y, 6 + int(width * 0.6), y + size + 3), fill=(0, 0, 0, 140))
            layer.rectangle((6, y, 6 + bar, y + size + 3), fill=(40, 120, 220, 180))
            text = f"{score.score:4.0%}  {score.label}"
            layer.text((10, y), text, fill=(255, 255, 255, 255), font=font)
            y += size + 6
    return np.asarray(picture)


def _as_os_error(error: Exception) -> OSError:
    return error if isinstance(error, OSError) else OSError(str(error))
