"""Small videos for tests: what is in them, and in which kinds of files."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from torch import Tensor

from movinet_edge.pattern import moving_pattern

LEVELS = 40


def encode_video(
    path: Path,
    images: Sequence[np.ndarray] | np.ndarray,
    rate: int = 10,
    codec: str = "libx264",
    options: dict[str, str] | None = None,
    steady: bool = False,
) -> Path:
    """These RGB pictures of one size; `options` are the container's.

    `steady`: the same file every time, which x264 does not promise with several threads or with its
    macroblock tree.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with av.open(str(path), "w", options=options or {}) as container:
        stream: Any = container.add_stream(codec, rate=rate)
        stream.height, stream.width = images[0].shape[:2]
        stream.pix_fmt = "yuv420p"
        if steady:
            stream.options = {"threads": "1", "x264-params": "mbtree=0"}
        for image in images:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(image, format="rgb24")))
        container.mux(stream.encode(None))
    return path


def numbered(number: int, height: int = 48, width: int = 64) -> np.ndarray:
    """A picture that is all one grey level for its number (modulo 40)."""
    return np.full((height, width, 3), 20 + 5 * (number % LEVELS), np.uint8)


def numbered_video(
    path: Path,
    times: Sequence[int],
    time_base: Fraction,
    size: tuple[int, int] = (48, 64),
    codec: str = "libx264",
    options: dict[str, str] | None = None,
    pix_fmt: str = "yuv420p",
    rate: Fraction = Fraction(30),
) -> Path:
    """One numbered frame at every one of `times`, in units of `time_base`."""
    with av.open(str(path), "w") as container:
        stream: Any = container.add_stream(codec, rate=rate, options=options or {})
        stream.height, stream.width = size
        stream.pix_fmt = pix_fmt
        stream.codec_context.time_base = time_base
        for number, time in enumerate(times):
            frame = av.VideoFrame.from_ndarray(numbered(number, *size), format="rgb24")
            frame.pts, frame.time_base = time, time_base
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return path


def steady(path: Path, count: int, rate: Fraction, **more: Any) -> Path:
    ticks = [n * rate.denominator for n in range(count)]
    return numbered_video(path, ticks, Fraction(1, rate.numerator), rate=rate, **more)


def film(path: Path, count: int = 30, rate: int = 30, **more: Any) -> Path:
    """Frames that carry their number as a grey level."""
    path.parent.mkdir(parents=True, exist_ok=True)
    return steady(path, count, Fraction(rate), **more)


def numbers(frames: Tensor) -> list[int]:
    """The numbers of frames [T, 3, H, W] of `film`, modulo 40."""
    return [round((float(frame.float().mean()) - 20) / 5) for frame in frames]


def with_sound(path: Path) -> Path:
    """Two seconds of pictures, six of sound; the file says that it lasts six."""
    with av.open(str(path), "w") as container:
        audio: Any = container.add_stream("aac", rate=8000)
        video: Any = container.add_stream("libx264", rate=10)
        video.height, video.width, video.pix_fmt = 48, 64, "yuv420p"
        for number in range(20):
            image = np.full((48, 64, 3), 20 + 5 * number, np.uint8)
            container.mux(video.encode(av.VideoFrame.from_ndarray(image, format="rgb24")))
        sound = av.AudioFrame.from_ndarray(np.zeros((1, 48000), np.float32), "fltp", "mono")
        sound.sample_rate = 8000
        container.mux(audio.encode(sound))
        for stream in (audio, video):
            container.mux(stream.encode(None))
    return path


H264 = {"g": "20", "bf": "3", "b_strategy": "0", "x264-params": "scenecut=0:open-gop=1"}
# Kinds of files: whether a late part is had without decoding all before it.
FILES: dict[str, tuple[dict[str, Any], bool]] = {
    "h264.mp4": ({"options": H264}, True),
    "h264.mkv": ({"options": H264}, True),
    "h264.avi": ({"options": H264}, False),
    "mpeg2.mpg": ({"codec": "mpeg2video", "options": {"g": "12", "bf": "2"}}, False),
    "vp8.webm": ({"codec": "libvpx", "options": {"g": "20", "auto-alt-ref": "1"}}, True),
    "one-key.mp4": ({"options": {"g": "1000", "x264-params": "scenecut=0"}}, True),
    "v.gif": ({"codec": "gif", "pix_fmt": "rgb8", "rate": Fraction(20)}, False),
}


@pytest.fixture(scope="session")
def video_files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Four seconds of every kind."""
    folder = tmp_path_factory.mktemp("files")
    made = {}
    for name, (options, _) in FILES.items():
        rate = options.get("rate", Fraction(25))
        more = {key: value for key, value in options.items() if key != "rate"}
        made[name] = steady(folder / name, int(4 * rate), rate, **more)
    return made


@pytest.fixture(scope="session")
def media(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """v.mp4 (index at the end), fast.mp4 (index first), song.m4a."""
    folder = tmp_path_factory.mktemp("media")
    images = moving_pattern(40, 64, 96, seed=7)
    encode_video(folder / "v.mp4", images)
    encode_video(folder / "fast.mp4", images, options={"movflags": "faststart"})
    with av.open(str(folder / "song.m4a"), "w") as container:
        audio: Any = container.add_stream("aac", rate=8000)
        sound = av.AudioFrame.from_ndarray(np.zeros((1, 8000), np.float32), "fltp", "mono")
        sound.sample_rate = 8000
        container.mux(audio.encode(sound))
        container.mux(audio.encode(None))
    return folder
