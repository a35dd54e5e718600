"""Clips: exactly the frames they should be, decoded by one thread, and none of broken videos."""

from __future__ import annotations

import gc
import os
import re
from fractions import Fraction
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader

from movinet_edge.bundle import Preprocessing
from movinet_edge.data.cache import FrameCache, shrink
from movinet_edge.data.clips import Broken, BrokenReport, EvalVideos, TrainClips, collate
from movinet_edge.data.sampling import MIDDLE, UniformSampling
from movinet_edge.errors import BadInput
from movinet_edge.runtime.preprocess import fill
from movinet_edge.runtime.video import VideoFile, on_screen, read_frames, ticks
from movinet_edge.train.protocols import uniform
from tests.data_sets import good, of_class, video_set
from tests.videos import FILES, film, numbered_video, numbers, steady, with_sound

# Exact clips -------------------------------------------------------------------------------


@pytest.mark.parametrize("name", FILES)
def test_seeking_gives_what_decoding_all_gives(video_files: dict[str, Path], name: str) -> None:
    with VideoFile(video_files[name], threads=1) as file:
        pictures = [p._replace(frame=p.frame.to_ndarray(format="gray")) for p in file.pictures()]
        length = file.end
    assert length is not None
    starts = [length * Fraction(n, 23) for n in range(24)]
    assert len({picture.frame.mean().round() for picture in pictures}) > 30
    for start in [*starts, pictures[70].time, pictures[71].time - Fraction(1, 10**9)]:
        times = list(islice(ticks(12.0, start), 9))
        want = list(on_screen(pictures, times))
        with VideoFile(video_files[name], threads=1) as file:
            got = [
                (t, f.to_ndarray(format="gray")) for t, f in on_screen(file.pictures(start), times)
            ]
        assert [time for time, _ in got] == [time for time, _ in want]
        for (_, one), (_, two) in zip(got, want, strict=True):
            np.testing.assert_array_equal(one, two)


@pytest.mark.parametrize("name", FILES)
def test_seeking_spares_decoding(video_files: dict[str, Path], name: str) -> None:
    """Otherwise the test above compares full decoding with itself."""
    with VideoFile(video_files[name], threads=1) as file:
        count = sum(1 for _ in file.pictures())
    with VideoFile(video_files[name], threads=1) as file:
        late = sum(1 for _ in file.pictures(Fraction(7, 2)))
    has_keys = name != "one-key.mp4" and FILES[name][1]
    assert late < 0.7 * count if has_keys else late == count


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("first", [0, 3, 11])
def test_a_clip_is_what_the_runtime_shows(
    video_files: dict[str, Path], tmp_path: Path, name: str, first: int
) -> None:
    """A segment with room for one clip: its frames are those of `read_frames` from there on."""
    start, rate = first / 4, 4.0
    video = of_class(video_files[name], 1, start, start + 4 / 4 + 1e-6)
    clips = TrainClips(video_set(video), 5, rate, short_side=48)
    clip = good(clips[0])
    want = [frame.image for frame in read_frames(video_files[name], rate)][first : first + 5]
    assert clip.frames.dtype == torch.uint8
    np.testing.assert_array_equal(clip.frames.permute(0, 2, 3, 1).numpy(), np.stack(want))
    assert (clip.target, clip.index) == (1, 0)


def test_clips_begin_anywhere_and_always_fit(tmp_path: Path) -> None:
    """30 frames at 10 per second, every third of them: the first is one of 0 to 24."""
    clips = TrainClips(video_set(film(tmp_path / "v.mp4", rate=10)), 3, 10 / 3, 48)
    firsts = []
    for epoch in range(300):
        clips.set_epoch(epoch)
        shown = numbers(good(clips[0]).frames)
        assert shown == [shown[0], shown[0] + 3, shown[0] + 6]
        firsts.append(shown[0])
    counts = np.bincount(firsts, minlength=24)
    # Starts are uniform over 0 to 2.4 s: of each of 24 frames 12.5 are expected.
    assert len(counts) == 24
    assert counts.min() >= 2
    assert counts.max() <= 30


def numbers_of(clips: TrainClips) -> list[int]:
    return numbers(good(clips[0]).frames)


def test_uniform_clips_have_a_frame_of_every_part(tmp_path: Path) -> None:
    """30 frames in 7 parts of 4 2/7: a clip has a frame of every part; all come in their turn."""
    path = film(tmp_path / "v.mp4", rate=10)
    clips = TrainClips(video_set(path), 7, 10, 48, sampling="uniform")
    parts: list[set[int]] = [set() for _ in range(7)]
    for epoch in range(150):
        clips.set_epoch(epoch)
        for part, number in enumerate(numbers_of(clips)):
            parts[part].add(number)
    for part, seen in enumerate(parts):
        assert seen == set(range(30 * part // 7, -(-30 * (part + 1) // 7)))
    assert set.union(*parts) == set(range(30))
    again = TrainClips(video_set(path), 7, 10, 48, sampling="uniform")
    again.set_epoch(149)
    assert torch.equal(good(again[0]).frames, good(clips[0]).frames)


def test_uniform_clips_are_those_of_the_protocol(tmp_path: Path) -> None:
    """With every frame in the middle of its part, training sees what the evaluation sees."""

    class Middle:
        def integers(self, _: int, size: int) -> np.ndarray:
            return np.full(size, MIDDLE)

    for length in (3, 7, 8, 20, 31, 300):
        sampling = UniformSampling(7, Fraction(5, 2))
        room = sampling.room(length / Fraction(5, 2))
        times = sampling.times(room, Middle())  # type: ignore[arg-type]
        numbers = [int(time * Fraction(5, 2)) for time in times]
        assert numbers + [length - 1] * (7 - len(numbers)) == uniform(length, 7)
    path = film(tmp_path / "v.mp4", 38, rate=10)
    segment = of_class(path, 0, 1.0, 2.95)
    contract = Preprocessing(height=48, width=48, frame_rate=5)
    assert len(good(EvalVideos(video_set(segment), contract)[0]).frames) == 10
    clips = TrainClips(video_set(segment), 12, 5, 48, sampling="uniform")
    assert numbers_of(clips) == [*range(10, 30, 2), 28, 28]


def test_uniform_clips_of_a_file_that_claims_more_than_it_has(tmp_path: Path) -> None:
    clips = TrainClips(video_set(with_sound(tmp_path / "v.mkv")), 4, 10, 48, sampling="uniform")
    for epoch in range(20):
        clips.set_epoch(epoch)
        for part, number in enumerate(numbers_of(clips)):
            assert 5 * part <= number < 5 * (part + 1)  # of 20 frames, not of the 50 it claims


def test_segments(tmp_path: Path) -> None:
    path = film(tmp_path / "v.mp4", 38, rate=10)
    clips = TrainClips(video_set(of_class(path, 0, 1.0, 2.0)), 4, 10, 48)
    firsts = set()
    for epoch in range(40):
        clips.set_epoch(epoch)
        shown = numbers(good(clips[0]).frames)
        assert shown == list(range(shown[0], shown[0] + 4))
        firsts.add(shown[0])
    assert firsts == {10, 11, 12, 13, 14, 15, 16}
    short = TrainClips(video_set(of_class(path, 0, 1.0, 1.25)), 5, 10, 48)
    assert numbers(good(short[0]).frames) == [10, 11, 12, 12, 12]


def test_short_videos_hold_their_last_frame(tmp_path: Path) -> None:
    path = film(tmp_path / "v.mp4", 4, rate=10)
    clips = TrainClips(video_set(path), 7, 10, 48)
    for epoch in range(3):
        clips.set_epoch(epoch)
        assert numbers(good(clips[0]).frames) == [0, 1, 2, 3, 3, 3, 3]


def test_a_file_that_claims_more_than_it_has(tmp_path: Path) -> None:
    path = with_sound(tmp_path / "v.mkv")
    with VideoFile(path) as file:
        assert file.stated is not None
        assert file.stated > 5
    clips = TrainClips(video_set(path), 5, 10, 48)
    firsts = []
    for epoch in range(200):
        clips.set_epoch(epoch)
        shown = numbers(good(clips[0]).frames)
        assert shown == list(range(shown[0], shown[0] + 5))
        firsts.append(shown[0])
    assert len(np.bincount(firsts)) == 16
    assert np.bincount(firsts).min() >= 2


@pytest.mark.parametrize("size", [(48, 64), (96, 54), (33, 101)])
def test_the_short_side(tmp_path: Path, size: tuple[int, int]) -> None:
    path = film(tmp_path / "v.mkv", 5, size=size, codec="ffv1", pix_fmt="bgr0")
    frames = good(TrainClips(video_set(path), 2, 30, 24)[0]).frames
    ratio = 24 / min(size)
    assert frames.shape == (2, 3, round(size[0] * ratio), round(size[1] * ratio))
    assert frames.is_contiguous()


def test_shrinking_is_antialiased() -> None:
    image = np.zeros((64, 96, 3), np.uint8)
    image[:, ::4] = 200
    small = shrink(image, 16)
    assert small.shape == (16, 24, 3)
    assert np.abs(small[:, 1:-1].astype(int) - 50).max() <= 12
    assert shrink(image, 64) is image


def test_evaluation_sees_what_the_runtime_sees(video_files: dict[str, Path]) -> None:
    contract = Preprocessing(height=20, width=20, frame_rate=6.0, crop_fraction=0.8)
    paths = list(video_files.values())
    items = EvalVideos(video_set(*paths, of_class(paths[0], 1, 1.5, 2.5)), contract)
    for index, path in enumerate(paths):
        want = []
        for frame in read_frames(path, 6.0):
            want.append(np.empty((20, 20, 3), np.float32))
            fill(want[-1], frame.image, contract)
        clip = good(items[index])
        assert clip.frames.dtype == torch.float32
        np.testing.assert_array_equal(clip.frames.permute(0, 2, 3, 1).numpy(), np.stack(want))
    part = good(items[len(paths)])
    torch.testing.assert_close(part.frames, good(items[0]).frames[9:15], rtol=0, atol=0)
    assert part.target == 1


@pytest.mark.skipif(not Path("/proc/self/task").is_dir(), reason="threads are counted on Linux")
def test_clips_are_decoded_by_one_thread(
    video_files: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Workers share the cores; and what they inherit must not wait for threads they lack."""
    counts: list[int] = []

    def counting(image: np.ndarray, short_side: int) -> np.ndarray:
        counts.append(len(os.listdir("/proc/self/task")))
        return shrink(image, short_side)

    clips = TrainClips(video_set(*video_files.values()), 8, 10, 24)
    good(clips[0])
    monkeypatch.setattr("movinet_edge.data.clips.shrink", counting)
    gc.disable()
    try:
        before = len(os.listdir("/proc/self/task"))
        for index in range(len(clips)):
            good(clips[index])
        after = len(os.listdir("/proc/self/task"))
    finally:
        gc.enable()
    assert len(counts) == 8 * len(clips)
    assert {*counts, after} == {before}


# Broken videos -----------------------------------------------------------------------------


@pytest.fixture
def broken(tmp_path: Path) -> dict[str, Path]:
    """By the reason that is to be given."""
    whole = film(tmp_path / "whole.mp4", 60, options={"g": "10"}).read_bytes()
    cut = film(tmp_path / "cut.avi", 60).read_bytes()
    contents = {
        "cannot be read as a video (empty, cut off or another format)": b"",
        "cannot be read as a video (empty, cut off": whole[: len(whole) // 2],
        "ends after": cut[: [m.start() for m in re.finditer(b"00dc", cut)][30]],
    }
    made = {"there is no video": tmp_path / "nothing.mp4"}
    for number, (reason, content) in enumerate(contents.items()):
        made[reason] = tmp_path / f"{number}.{'avi' if b'AVI' in content else 'mp4'}"
        made[reason].write_bytes(content)
    made["has only one frame"] = film(tmp_path / "one.mp4", 1)
    still = numbered_video(tmp_path / "still.mkv", [0], Fraction(1, 1000), rate=Fraction(1, 30))
    made["has only one frame "] = still
    made["changes its aspect ratio"] = two_sizes(tmp_path / "sizes.ts")
    return made


def two_sizes(path: Path) -> Path:
    """A stream that was wide and is tall."""
    wide = steady(path.with_name("wide.ts"), 10, Fraction(25), size=(48, 96))
    later = range(10, 20)
    tall = numbered_video(path.with_name("tall.ts"), later, Fraction(1, 25), size=(96, 48))
    path.write_bytes(wide.read_bytes() + tall.read_bytes())
    return path


@pytest.mark.parametrize("cached", [False, True])
def test_broken_videos_do_not_stop_the_others(
    tmp_path: Path, broken: dict[str, Path], cached: bool
) -> None:
    fine = film(tmp_path / "fine.mp4")
    cache = FrameCache(tmp_path / "cache") if cached else None
    clips = TrainClips(video_set(*broken.values(), fine), 40, 20, 24, cache=cache)
    loader: DataLoader[Any] = DataLoader(
        clips, batch_size=len(clips), num_workers=1, collate_fn=collate
    )
    (batch,) = loader
    assert len(batch.frames) == 1
    assert [b.path for b in batch.broken] == list(broken.values())
    for one, reason in zip(batch.broken, broken, strict=True):
        assert one.reason.startswith(reason.strip()), one
        assert not one.fatal


def test_broken_videos_of_an_evaluation(tmp_path: Path, broken: dict[str, Path]) -> None:
    path = film(tmp_path / "fine.mp4")
    contract = Preprocessing(height=20, width=20, frame_rate=5)
    items = EvalVideos(video_set(*broken.values(), of_class(path, 0, 99.0)), contract)
    reasons = {
        item.path: item.reason
        for item in map(items.__getitem__, range(len(items)))
        if isinstance(item, Broken)
    }
    assert reasons[path] == "ends before 99 s, where its segment starts"
    del reasons[path]
    # Neither one frame nor a change of size keeps the runtime from answering.
    assert set(reasons) == set(list(broken.values())[:4])


def test_a_segment_after_the_end(tmp_path: Path) -> None:
    clips = TrainClips(video_set(of_class(film(tmp_path / "v.mp4"), 0, 99.0)), 2, 5, 24)
    assert clips[0] == Broken(tmp_path / "v.mp4", "ends before 99 s, where its segment starts")


def test_other_errors_are_not_hidden(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def defect(*_: object) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr("movinet_edge.data.clips.shrink", defect)
    with pytest.raises(ZeroDivisionError):
        TrainClips(video_set(film(tmp_path / "v.mp4")), 2, 5, 24)[0]


def test_the_report_of_broken_videos() -> None:
    said: list[str] = []
    report = BrokenReport(said.append)
    one, two = Broken(Path("a.mp4"), "is bad"), Broken(Path("b.mp4"), "is worse")
    report.add([one])
    report.check(2)
    report.add([one, two])
    assert said == ["a.mp4 is left out: is bad", "b.mp4 is left out: is worse"]
    assert len(report) == 2
    with pytest.raises(BadInput, match=r"none of the 2 videos can be used \(a.mp4: is bad\)"):
        report.check(2)
    report.add([one])
    report.check(2)  # the epoch before does not count
