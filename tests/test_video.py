"""Videos are sampled by their timestamps and come out upright.

The synthetic ones carry their frame's number as a grey level, which survives compression.
"""

from __future__ import annotations

import csv
import struct
from collections.abc import Callable, Sequence
from fractions import Fraction
from itertools import islice
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest

from movinet_edge.errors import BadInput
from movinet_edge.runtime.video import VideoFrame, read_camera, read_frames
from tests.videos import LEVELS, encode_video, numbered, numbered_video, steady

RATES = [
    (Fraction(30), 5.0),
    (Fraction(30), 12.0),
    (Fraction(25), 30.0),
    (Fraction(10), 10.0),
    (Fraction(30000, 1001), 5.0),
    (Fraction(30000, 1001), 12.0),
    (Fraction(30000, 1001), 29.97),
    (Fraction(24000, 1001), 7.5),
    (Fraction(8), 3.0),
]


def number_of(frame: VideoFrame) -> int:
    return round((float(frame.image.mean()) - 20) / 5)


def expected(
    times: Sequence[Fraction], end: Fraction, rate: float, slack: Fraction = Fraction(0)
) -> list[int]:
    """Which frame is on screen at every tick before `end`; the definition, spelt out."""
    step, shown, tick = 1 / Fraction(rate).limit_denominator(1001), [], Fraction(0)
    while tick < end:
        shown.append(max(n for n, time in enumerate(times) if time - slack <= tick))
        tick += step
    return [number % LEVELS for number in shown]


@pytest.mark.parametrize(("file_rate", "rate"), RATES, ids=str)
def test_sampling_at_any_rate(tmp_path: Path, file_rate: Fraction, rate: float) -> None:
    path = steady(tmp_path / "v.mp4", 36, file_rate)
    frames = list(read_frames(path, rate))
    times = [n / file_rate for n in range(36)]
    assert [number_of(f) for f in frames] == expected(times, 36 / file_rate, rate)
    np.testing.assert_allclose([f.time for f in frames], np.arange(len(frames)) / rate, atol=1e-9)
    assert all(f.image.dtype == np.uint8 and f.image.shape == (48, 64, 3) for f in frames)


@pytest.mark.parametrize("first", [0, 7000])
@pytest.mark.parametrize("rate", [4.0, 5.0, 12.0])
def test_variable_frame_rate(tmp_path: Path, rate: float, first: int) -> None:
    """A phone in the dark: 30, then 8, then 20 frames per second; any first timestamp."""
    gaps = [33] * 10 + [125] * 8 + [50] * 10
    ticks = [int(t) for t in np.cumsum([first, *gaps])]
    path = numbered_video(tmp_path / "v.mkv", ticks, Fraction(1, 1000))
    times = [Fraction(t - first, 1000) for t in ticks]
    got = [number_of(f) for f in read_frames(path, rate)]
    want = expected(times, times[-1], rate, Fraction(1, 2000))
    # How long the last picture stays, the file does not say.
    assert got[: len(want)] == want
    assert len(want) <= len(got) <= len(want) + 1
    assert set(got[len(want) :]) <= {len(ticks) - 1}


def test_first_timestamp_is_not_zero(tmp_path: Path) -> None:
    path = numbered_video(
        tmp_path / "v.ts", range(9000, 9000 + 20 * 3000, 3000), Fraction(1, 90000)
    )
    with av.open(str(path)) as container:
        assert (container.streams.video[0].start_time or 0) > 0
    frames = list(read_frames(path, 10.0))
    assert frames[0].time == 0
    assert [number_of(f) for f in frames] == [0, 3, 6, 9, 12, 15, 18]


@pytest.mark.parametrize("suffix", ["mp4", "mkv", "avi", "ts"])
def test_frames_that_are_stored_out_of_order(tmp_path: Path, suffix: str) -> None:
    options = {"bf": "3", "b-pyramid": "normal", "b_strategy": "0", "g": "30"}
    path = steady(tmp_path / f"v.{suffix}", 36, Fraction(30), options=options)
    with av.open(str(path)) as container:
        assert any(frame.pict_type == 3 for frame in container.decode(video=0))  # B
    assert [number_of(f) for f in read_frames(path, 30)] == list(range(36))


@pytest.mark.parametrize("size", [(49, 63), (33, 101), (17, 17)])
def test_odd_sizes(tmp_path: Path, size: tuple[int, int]) -> None:
    path = steady(tmp_path / "v.mkv", 10, Fraction(10), size=size, codec="ffv1", pix_fmt="bgr0")
    frames = list(read_frames(path, 5.0))
    assert [number_of(f) for f in frames] == [0, 2, 4, 6, 8]
    assert frames[0].image.shape == (*size, 3)


def test_colours_are_rgb(tmp_path: Path) -> None:
    picture = np.zeros((48, 64, 3), np.uint8)
    picture[..., 0], picture[..., 1] = 230, 100
    path = encode_video(tmp_path / "v.mp4", [picture] * 3)
    image = next(read_frames(path, 5)).image
    assert np.abs(image.reshape(-1, 3).mean(0) - (230, 100, 0)).max() < 6


def test_gif(tmp_path: Path) -> None:
    path = steady(tmp_path / "v.gif", 12, Fraction(10), codec="gif", pix_fmt="rgb8")
    frames = list(read_frames(path, 5.0))
    assert [f.time for f in frames] == pytest.approx([0, 0.2, 0.4, 0.6, 0.8, 1.0])


@pytest.mark.parametrize("suffix", ["mp4", "mkv", "avi", "webm"])
def test_a_video_with_sound(tmp_path: Path, suffix: str) -> None:
    path, rate = tmp_path / f"v.{suffix}", 48000
    codecs = {"webm": ("libvpx", "libopus")}.get(suffix, ("libx264", "aac"))
    with av.open(str(path), "w") as container:
        # Sound comes first and lasts longer.
        audio: Any = container.add_stream(codecs[1], rate=rate)
        video: Any = container.add_stream(codecs[0], rate=10)
        video.height, video.width, video.pix_fmt = 48, 64, "yuv420p"
        for number in range(20):
            picture = av.VideoFrame.from_ndarray(numbered(number), format="rgb24")
            container.mux(video.encode(picture))
            samples = np.zeros((1, 2 * rate * 3 // 20), np.int16)
            sound = av.AudioFrame.from_ndarray(samples, format="s16", layout="stereo")
            sound.sample_rate, sound.pts = rate, number * rate * 3 // 20
            container.mux(audio.encode(sound))
        for stream in (video, audio):
            container.mux(stream.encode(None))
    assert [number_of(f) for f in read_frames(path, 5)] == list(range(0, 20, 2))


# Display matrices as ffmpeg documents them: the stored (p, q), q pointing down, is shown at
# (a p + c q, b p + d q), shifted into the frame. For each: a, b, c, d, and the position at which
# the stored picture's upper left, upper right, lower left and lower right come to lie.
UPRIGHT = {
    "as stored": ((1, 0, 0, 1), "1234"),
    "a quarter clockwise": ((0, 1, -1, 0), "3142"),
    "half a turn": ((-1, 0, 0, -1), "4321"),
    "a quarter counterclockwise": ((0, -1, 1, 0), "2413"),
    "mirrored": ((-1, 0, 0, 1), "2143"),
    "upside down": ((1, 0, 0, -1), "3412"),
    "mirrored, a quarter clockwise": ((0, 1, 1, 0), "1324"),
    "mirrored, a quarter counterclockwise": ((0, -1, -1, 0), "4231"),
}


@pytest.mark.parametrize("turn", UPRIGHT)
def test_rotated_videos_come_out_upright(tmp_path: Path, turn: str) -> None:
    """The corners of the stored picture are grey levels 1 to 4; read them as shown."""
    (a, b, c, d), corners = UPRIGHT[turn]
    levels = np.array([[40, 100], [160, 220]], np.uint8)
    picture = np.repeat(levels.repeat(32, 0).repeat(48, 1)[..., None], 3, 2)
    path = encode_video(tmp_path / "v.mp4", [picture] * 3)
    content = bytearray(path.read_bytes())
    place = content.index(b"tkhd") + 44  # where the track header has its matrix
    one = 1 << 16
    matrix = (a * one, b * one, 0, c * one, d * one, 0, 0, 0, 1 << 30)
    assert struct.unpack_from(">9i", content, place) == (one, 0, 0, 0, one, 0, 0, 0, 1 << 30)
    struct.pack_into(">9i", content, place, *matrix)
    path.write_bytes(content)

    image = next(read_frames(path, 10)).image
    assert image.shape == ((64, 96, 3) if a else (96, 64, 3))
    assert image.flags.c_contiguous
    height, width = image.shape[:2]
    shown = [
        image[height * y // 4, width * x // 4].mean() for y, x in ((1, 1), (1, 3), (3, 1), (3, 3))
    ]
    assert "".join(str(round((level - 40) / 60) + 1) for level in shown) == corners


def test_reading_stops_when_the_reader_does(tmp_path: Path) -> None:
    path = steady(tmp_path / "v.mp4", 36, Fraction(30))
    assert len(list(islice(read_frames(path, 30), 3))) == 3


def test_the_cover_of_a_song_is_no_video(tmp_path: Path) -> None:
    path = tmp_path / "song.mp4"
    with av.open(str(path), "w") as container:
        audio: Any = container.add_stream("aac", rate=8000)
        cover: Any = container.add_stream("mjpeg", rate=1)
        cover.height, cover.width, cover.pix_fmt = 48, 64, "yuvj420p"
        cover.disposition = av.stream.Disposition.attached_pic
        sound = av.AudioFrame.from_ndarray(np.zeros((1, 8000), np.float32), "fltp", "mono")
        sound.sample_rate = 8000
        container.mux(cover.encode(av.VideoFrame.from_ndarray(numbered(1), format="rgb24")))
        container.mux(audio.encode(sound))
        for stream in (cover, audio):
            container.mux(stream.encode(None))
    with pytest.raises(BadInput, match="no video track"):
        next(read_frames(path, 5))


def test_a_playlist_does_not_reach_for_the_network(tmp_path: Path) -> None:
    path = tmp_path / "list.m3u8"
    path.write_text(
        "#EXTM3U\n#EXT-X-TARGETDURATION:10\n#EXTINF:9,\nhttp://127.0.0.1:9/a.ts\n#EXT-X-ENDLIST\n"
    )
    with pytest.raises(BadInput, match=r"cannot be read|no video track|no readable picture"):
        list(read_frames(path, 5))


@pytest.mark.parametrize("name", ["camera:", "camera:x", "camera:97", "camera:../null"])
def test_no_such_camera(name: str) -> None:
    with pytest.raises(BadInput, match="there is no camera"):
        next(read_camera(name, 5))


def test_real_clips(shared: Callable[[str], Path]) -> None:
    """As many frames at 5 per second as were counted when the clips were collected."""
    with shared("data/clips/manifest.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) >= 18
    for row in rows:
        count = sum(1 for _ in read_frames(shared(f"data/clips/{row['file']}"), 5.0))
        assert abs(count - int(row["a0int8_frames_at5fps"])) <= 1, row["file"]
