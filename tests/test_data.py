"""Clips: exact, random by their seeds only, the same from the cache, and their augmentation."""

from __future__ import annotations

import gc
import os
import re
import shutil
import subprocess
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from fractions import Fraction
from itertools import islice
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
import torch
from torch import Tensor
from torch.utils.data import DataLoader

from movinet_edge.bundle import Preprocessing
from movinet_edge.data import cache as cache_module
from movinet_edge.data.augment import Augment, AugmentConfig, CentreCrop, crop_box
from movinet_edge.data.cache import FrameCache, shrink
from movinet_edge.data.clips import (
    Batch,
    Broken,
    BrokenReport,
    Clip,
    EvalVideos,
    TrainClips,
    collate,
)
from movinet_edge.data.listing import Video, VideoSet
from movinet_edge.errors import BadInput
from movinet_edge.runtime.preprocess import fill
from movinet_edge.runtime.video import VideoFile, on_screen, read_frames, ticks
from tests.test_video import steady, write_video

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


def film(path: Path, count: int = 30, rate: int = 30, **more: Any) -> Path:
    """Frames that carry their number as a grey level."""
    path.parent.mkdir(parents=True, exist_ok=True)
    return steady(path, count, Fraction(rate), **more)


def numbers(frames: Tensor) -> list[int]:
    """The numbers of frames [T, 3, H, W] of `film`, modulo 40."""
    return [round((float(frame.float().mean()) - 20) / 5) for frame in frames]


def video_set(*videos: Video | Path) -> VideoSet:
    entries = [video if isinstance(video, Video) else Video(video, 0) for video in videos]
    return VideoSet(tuple(entries), ("one", "two"), Path("set"))


def good(item: Clip | Broken) -> Clip:
    assert isinstance(item, Clip), item
    return item


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Four seconds of every kind."""
    folder = tmp_path_factory.mktemp("files")
    made = {}
    for name, (options, _) in FILES.items():
        rate = options.get("rate", Fraction(25))
        more = {key: value for key, value in options.items() if key != "rate"}
        made[name] = steady(folder / name, int(4 * rate), rate, **more)
    return made


# Exact clips -------------------------------------------------------------------------------


@pytest.mark.parametrize("name", FILES)
def test_seeking_gives_what_decoding_all_gives(files: dict[str, Path], name: str) -> None:
    with VideoFile(files[name], threads=1) as file:
        pictures = [p._replace(frame=p.frame.to_ndarray(format="gray")) for p in file.pictures()]
        length = file.end
    assert length is not None
    starts = [length * Fraction(n, 23) for n in range(24)]
    assert len({picture.frame.mean().round() for picture in pictures}) > 30
    for start in [*starts, pictures[70].time, pictures[71].time - Fraction(1, 10**9)]:
        times = list(islice(ticks(12.0, start), 9))
        want = list(on_screen(pictures, times))
        with VideoFile(files[name], threads=1) as file:
            got = [
                (t, f.to_ndarray(format="gray")) for t, f in on_screen(file.pictures(start), times)
            ]
        assert [time for time, _ in got] == [time for time, _ in want]
        for (_, one), (_, two) in zip(got, want, strict=True):
            np.testing.assert_array_equal(one, two)


@pytest.mark.parametrize("name", FILES)
def test_seeking_spares_decoding(files: dict[str, Path], name: str) -> None:
    """Otherwise the test above compares full decoding with itself."""
    with VideoFile(files[name], threads=1) as file:
        count = sum(1 for _ in file.pictures())
    with VideoFile(files[name], threads=1) as file:
        late = sum(1 for _ in file.pictures(Fraction(7, 2)))
    has_keys = name != "one-key.mp4" and FILES[name][1]
    assert late < 0.7 * count if has_keys else late == count


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("first", [0, 3, 11])
def test_a_clip_is_what_the_runtime_shows(
    files: dict[str, Path], tmp_path: Path, name: str, first: int
) -> None:
    """A segment with room for one clip: its frames are those of `read_frames` from there on."""
    start, rate = first / 4, 4.0
    video = Video(files[name], 1, start, start + 4 / 4 + 1e-6)
    clips = TrainClips(video_set(video), 5, rate, short_side=48)
    clip = good(clips[0])
    want = [frame.image for frame in read_frames(files[name], rate)][first : first + 5]
    assert clip.frames.dtype == torch.uint8
    np.testing.assert_array_equal(clip.frames.permute(0, 2, 3, 1).numpy(), np.stack(want))
    assert (clip.label, clip.index) == (1, 0)


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


def test_segments(tmp_path: Path) -> None:
    path = film(tmp_path / "v.mp4", 38, rate=10)
    clips = TrainClips(video_set(Video(path, 0, 1.0, 2.0)), 4, 10, 48)
    firsts = set()
    for epoch in range(40):
        clips.set_epoch(epoch)
        shown = numbers(good(clips[0]).frames)
        assert shown == list(range(shown[0], shown[0] + 4))
        firsts.add(shown[0])
    assert firsts == {10, 11, 12, 13, 14, 15, 16}
    short = TrainClips(video_set(Video(path, 0, 1.0, 1.25)), 5, 10, 48)
    assert numbers(good(short[0]).frames) == [10, 11, 12, 12, 12]


def test_short_videos_hold_their_last_frame(tmp_path: Path) -> None:
    path = film(tmp_path / "v.mp4", 4, rate=10)
    clips = TrainClips(video_set(path), 7, 10, 48)
    for epoch in range(3):
        clips.set_epoch(epoch)
        assert numbers(good(clips[0]).frames) == [0, 1, 2, 3, 3, 3, 3]


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


def test_evaluation_sees_what_the_runtime_sees(files: dict[str, Path]) -> None:
    contract = Preprocessing(height=20, width=20, frame_rate=6.0, crop_fraction=0.8)
    paths = list(files.values())
    items = EvalVideos(video_set(*paths, Video(paths[0], 1, 1.5, 2.5)), contract)
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
    assert part.label == 1


# Randomness --------------------------------------------------------------------------------


def clips_of(loader: DataLoader[Clip | Broken]) -> list[tuple[Tensor, int, int]]:
    found = []
    for batch in loader:
        parts = zip(batch.frames, batch.labels.tolist(), batch.seeds.tolist(), strict=True)
        found += [(frames.clone(), label, seed) for frames, label, seed in parts]
    return found


def same(one: Sequence[tuple[Tensor, int, int]], two: Sequence[tuple[Tensor, int, int]]) -> bool:
    return len(one) == len(two) and all(
        torch.equal(a[0], b[0]) and a[1:] == b[1:] for a, b in zip(one, two, strict=True)
    )


@pytest.fixture
def many(tmp_path: Path, files: dict[str, Path]) -> VideoSet:
    """Videos of several sizes, and one that is broken."""
    (tmp_path / "text.mp4").write_text("no video")
    film(tmp_path / "tall.mp4", size=(102, 48))
    film(tmp_path / "odd.mkv", size=(48, 101), codec="ffv1", pix_fmt="bgr0")
    paths = [*files.values(), tmp_path / "tall.mp4", tmp_path / "odd.mkv"]
    paths.append(tmp_path / "text.mp4")
    return video_set(*(Video(path, n % 2) for n, path in enumerate(paths)))


@pytest.mark.parametrize("start", ["fork", "spawn"])
def test_workers_do_not_matter(many: VideoSet, start: str) -> None:
    """Nor that they live on between epochs."""
    clips = TrainClips(many, 4, 6, 32, seed=7)
    options: dict[str, Any] = {"batch_size": 3, "collate_fn": collate}
    alone: DataLoader[Any] = DataLoader(clips, **options)
    apart: DataLoader[Any] = DataLoader(
        clips,
        num_workers=1 if start == "spawn" else 2,
        persistent_workers=True,
        multiprocessing_context=start,
        **options,
    )
    epochs = []
    for epoch in (0, 1, 5):
        clips.set_epoch(epoch)
        epochs.append(clips_of(alone))
        assert len(epochs[-1]) == len(many) - 1
        assert same(epochs[-1], clips_of(apart))
    assert not same(epochs[0], epochs[1])
    clips.set_epoch(0)
    assert same(clips_of(alone), epochs[0])


def test_the_seed_the_epoch_and_the_index_matter(files: dict[str, Path]) -> None:
    path = files["h264.mp4"]
    seeds = set()
    for seed in range(3):
        clips = TrainClips(video_set(path, path), 2, 5, 48, seed)
        for epoch in range(3):
            clips.set_epoch(epoch)
            seeds |= {good(clips[0]).seed, good(clips[1]).seed}
    assert len(seeds) == 18
    assert all(0 <= seed < 1 << 63 for seed in seeds)


def test_batches_travel_whole() -> None:
    frames = torch.arange(2 * 3 * 4 * 5, dtype=torch.uint8).view(2, 3, 4, 5)
    broken = Broken(Path("x"), "is bad", 2)
    batch = collate([Clip(frames, 1, 0, 11), broken, Clip(frames[:, :, 1:], 0, 1, 1 << 62)])
    build, parts = batch.__reduce__()
    again = build(*parts)  # type: ignore[operator,misc]
    for one in (batch, again):
        assert isinstance(one, Batch)
        assert [f.tolist() for f in one.frames] == [frames.tolist(), frames[:, :, 1:].tolist()]
        assert one.labels.tolist() == [1, 0]
        assert one.seeds.tolist() == [11, 1 << 62]
        assert one.broken == (broken,)
    build, parts = collate([broken]).__reduce__()
    assert build(*parts).frames == ()  # type: ignore[operator,misc]


# The cache ---------------------------------------------------------------------------------


def test_the_cache_changes_nothing(
    many: VideoSet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    long = with_sound(tmp_path / "sound.mkv")
    cut = replace(many.videos[0], start=1.3, end=2.9)
    videos = video_set(*many.videos, long, cut)
    plain = TrainClips(videos, 5, 6, 48, seed=3)
    cached = TrainClips(videos, 5, 6, 48, seed=3, cache=FrameCache(tmp_path / "cache"))
    for epoch in range(8):
        for clips in (plain, cached):
            clips.set_epoch(epoch)
        for index in range(len(videos)):
            one, two = plain[index], cached[index]
            if isinstance(one, Broken):
                assert one == two
            else:
                assert same(
                    [(one.frames, one.label, one.seed)],
                    [(good(two).frames, good(two).label, good(two).seed)],
                )
        if epoch == 0:  # from now on nothing sound is decoded
            sound = {video.path for video in videos.videos if video.path.name != "text.mp4"}
            monkeypatch.setattr(cache_module, "VideoFile", refusing(sound))
    names = [path.name for path in (tmp_path / "cache").iterdir()]
    assert len(names) == len(sound)
    assert all(name.endswith(".frames") for name in names)


def refusing(paths: set[Path]) -> Callable[..., VideoFile]:
    def open_video(path: Path, threads: int = 0) -> VideoFile:
        assert path not in paths
        return VideoFile(path, threads)

    return open_video


def test_a_changed_video_is_decoded_again(tmp_path: Path) -> None:
    path, cache = film(tmp_path / "v.mp4", 4, rate=10), FrameCache(tmp_path / "cache")
    assert len(list(cache.open(path, 24).pictures())) == 4
    assert cache.open(path, 24).frames.shape == (4, 24, 32, 3)
    assert cache.open(path, 12).frames.shape == (4, 12, 16, 3)
    film(path, 6, rate=10)
    assert len(list(cache.open(path, 24).pictures())) == 6
    os.utime(path, (1, 1))
    cache.open(path, 24)
    assert len(list((tmp_path / "cache").iterdir())) == 4


def test_many_processes_fill_one_cache(many: VideoSet, tmp_path: Path) -> None:
    videos = video_set(*(many.videos * 3))
    clips = TrainClips(videos, 3, 5, 24, cache=FrameCache(tmp_path / "cache"))
    loader: DataLoader[Any] = DataLoader(clips, batch_size=1, num_workers=2, collate_fn=collate)
    plain = TrainClips(videos, 3, 5, 24)
    assert same(clips_of(loader), clips_of(DataLoader(plain, batch_size=4, collate_fn=collate)))


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    folder = tmp_path / "mounted"
    folder.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", str(folder)]
    if os.geteuid() != 0 or shutil.which("mount") is None:
        pytest.skip("mounting needs root")
    if subprocess.run(command, capture_output=True).returncode:
        pytest.skip("mounting is not allowed here")
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


@pytest.mark.parametrize("workers", [0, 1])
def test_a_full_disk_ends_the_training(tmp_path: Path, small_disk: Path, workers: int) -> None:
    """With one sentence, also from a worker; no other video would fit either."""
    path = film(tmp_path / "v.mp4", 20)
    clips = TrainClips(video_set(path), 2, 5, 48, cache=FrameCache(small_disk))
    loader: DataLoader[Any] = DataLoader(clips, num_workers=workers, collate_fn=collate)
    (batch,) = loader
    with pytest.raises(BadInput, match=r"^the disk is full: .* was not written; free some space"):
        BrokenReport().add(batch.broken)
    assert list(small_disk.iterdir()) == []


def test_a_cache_that_cannot_be(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(BadInput, match="cannot be written"):
        FrameCache(tmp_path / "file" / "cache")


@pytest.mark.skipif(not Path("/proc/self/task").is_dir(), reason="threads are counted on Linux")
@pytest.mark.skipif(not Path("/proc/self/task").is_dir(), reason="threads are counted on Linux")
def test_clips_are_decoded_by_one_thread(
    files: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Workers share the cores; and what they inherit must not wait for threads they lack."""
    counts: list[int] = []

    def counting(image: np.ndarray, short_side: int) -> np.ndarray:
        counts.append(len(os.listdir("/proc/self/task")))
        return shrink(image, short_side)

    clips = TrainClips(video_set(*files.values()), 8, 10, 24)
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
    still = write_video(tmp_path / "still.mkv", [0], Fraction(1, 1000), rate=Fraction(1, 30))
    made["has only one frame "] = still
    made["changes its aspect ratio"] = two_sizes(tmp_path / "sizes.ts")
    return made


def two_sizes(path: Path) -> Path:
    """A stream that was wide and is tall."""
    wide = steady(path.with_name("wide.ts"), 10, Fraction(25), size=(48, 96))
    later = range(10, 20)
    tall = write_video(path.with_name("tall.ts"), later, Fraction(1, 25), size=(96, 48))
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
    items = EvalVideos(video_set(*broken.values(), Video(path, 0, 99.0)), contract)
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
    clips = TrainClips(video_set(Video(film(tmp_path / "v.mp4"), 0, 99.0)), 2, 5, 24)
    assert clips[0] == Broken(tmp_path / "v.mp4", "ends before 99 s, where its segment starts", 0)


def test_other_errors_are_not_hidden(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def defect(*_: object) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr("movinet_edge.data.clips.shrink", defect)
    with pytest.raises(ZeroDivisionError):
        TrainClips(video_set(film(tmp_path / "v.mp4")), 2, 5, 24)[0]


def test_the_report_of_broken_videos() -> None:
    said: list[str] = []
    report = BrokenReport(said.append)
    one, two = Broken(Path("a.mp4"), "is bad", 0), Broken(Path("b.mp4"), "is worse", 1)
    report.add([one])
    report.check(2)
    report.add([one, two])
    assert said == ["a.mp4 is left out: is bad", "b.mp4 is left out: is worse"]
    assert len(report) == 2
    with pytest.raises(BadInput, match=r"none of the 2 videos can be used \(a.mp4: is bad\)"):
        report.check(2)
    report.add([one])
    report.check(2)  # the epoch before does not count


# Augmentation ------------------------------------------------------------------------------


def batch_of(*frames: Tensor, seeds: Sequence[int]) -> Batch:
    return Batch(frames, torch.zeros(len(frames), dtype=torch.int64), torch.tensor(seeds))


def scene(frames: int = 3, height: int = 40, width: int = 60, seed: int = 0) -> Tensor:
    """The same random picture [T, 3, H, W] at all times."""
    chance = torch.Generator().manual_seed(seed)
    image = torch.randint(0, 256, (1, 3, height, width), generator=chance, dtype=torch.uint8)
    return image.expand(frames, -1, -1, -1).contiguous()


FULL = AugmentConfig(size=24, brightness=0.4, contrast=0.4, saturation=0.4)


def test_a_presentation_depends_on_its_seed_only() -> None:
    one, two = scene(seed=1), scene(height=50, width=30, seed=2)
    augment = Augment(FULL)
    both = augment(batch_of(one, two, seeds=[5, 6]))
    assert both.shape == (2, 3, 3, 24, 24)
    assert both.dtype == torch.float32
    assert both.min() >= 0
    assert both.max() <= 1
    torch.testing.assert_close(augment(batch_of(two, one, seeds=[6, 5])), both.flip(0))
    others = augment(batch_of(*[one] * 20, seeds=range(20)))
    assert len({tuple(clip.flatten().tolist()) for clip in others}) == 20
    assert torch.equal(others[5], both[0])


def test_all_frames_of_a_clip_are_changed_alike() -> None:
    for clip in Augment(FULL)(batch_of(*[scene()] * 20, seeds=range(20))):
        assert torch.equal(clip[0], clip[1])
        assert torch.equal(clip[0], clip[2])


def test_crops_are_of_the_recipe() -> None:
    chance, areas, ratios = np.random.default_rng(0), [], []
    corners = set()
    for _ in range(2000):
        top, left, height, width = crop_box(chance, 300, 300, (0.08, 1.0), (0.5, 2.0))
        assert 0 <= top <= 300 - height
        assert 0 <= left <= 300 - width
        areas.append(height * width / (300 * 300))
        ratios.append(width / height)
        corners.add((top > 0, left > 0))
    assert 0.075 < min(areas) < 0.1
    assert max(areas) > 0.9
    assert 0.49 < min(ratios) < 0.55
    assert 1.8 < max(ratios) < 2.05
    assert 0.9 < np.median(ratios) < 1.15
    assert len(corners) == 4


@pytest.mark.parametrize(
    ("size", "box"), [((10, 100), (0, 40, 10, 20)), ((100, 10), (40, 0, 20, 10))]
)
def test_crops_of_extreme_frames(size: tuple[int, int], box: tuple[int, int, int, int]) -> None:
    """No shape of this area fits: the largest one of an allowed ratio, in the middle."""
    assert crop_box(np.random.default_rng(0), *size, (1.0, 1.0), (0.5, 2.0)) == box
    assert crop_box(np.random.default_rng(0), 40, 60, (1.0, 1.0), (1.5, 1.5)) == (0, 0, 40, 60)


def test_half_the_clips_are_mirrored() -> None:
    frames = scene(1, 24, 24)
    plain = frames.float() / 255
    options: dict[str, Any] = {"size": 24, "scale": (1.0, 1.0), "ratio": (1.0, 1.0)}
    flips = 0
    for clip in Augment(AugmentConfig(**options))(batch_of(*[frames] * 100, seeds=range(100))):
        mirrored = torch.equal(clip, plain.flip(-1))
        assert mirrored or torch.equal(clip, plain)
        flips += mirrored
    assert 30 < flips < 70
    kept = Augment(AugmentConfig(**options, flip=False))(batch_of(*[frames] * 9, seeds=range(9)))
    assert torch.equal(kept, plain.expand(9, -1, -1, -1, -1))


@pytest.mark.parametrize("kind", ["brightness", "contrast", "saturation"])
def test_colours(kind: str) -> None:
    """Each by the factor that its name promises, and by no other."""
    options: dict[str, Any] = {"size": 24, "scale": (1.0, 1.0), "ratio": (1.0, 1.0), "flip": False}
    frames = (scene(2, 24, 24).float() / 4 + 96).byte()  # far from black and white
    plain = frames.float() / 255
    weights = torch.tensor([0.299, 0.587, 0.114])[:, None, None]
    grey = (plain * weights).sum(-3, keepdim=True)
    centre = {"brightness": torch.zeros(()), "contrast": grey.mean(), "saturation": grey}[kind]
    augment, factors = Augment(AugmentConfig(**options, **{kind: 0.5})), []
    for clip in augment(batch_of(*[frames] * 50, seeds=range(50))):
        factor = ((clip - centre) * (plain - centre)).sum() / (plain - centre).square().sum()
        torch.testing.assert_close(clip, centre + (plain - centre) * factor, atol=1e-5, rtol=0)
        factors.append(float(factor))
    assert 0.5 <= min(factors) < 0.6
    assert 1.4 < max(factors) <= 1.501


def test_the_centre() -> None:
    frames = torch.zeros(2, 3, 30, 50, dtype=torch.uint8)
    frames[..., 10:40] = 255
    assert torch.equal(CentreCrop(10)(batch_of(frames, seeds=[0])), torch.ones(1, 2, 3, 10, 10))
    stripes = torch.zeros(1, 3, 40, 40, dtype=torch.uint8)
    stripes[..., ::4] = 255
    small = CentreCrop(10)(batch_of(stripes, seeds=[0]))[..., 1:-1]
    torch.testing.assert_close(small, torch.full_like(small, 0.25), atol=0.06, rtol=0)
    square = scene(2, 24, 24)
    assert torch.equal(CentreCrop(24)(batch_of(square, seeds=[0]))[0], square.float() / 255)


def test_batches_without_clips() -> None:
    for transform in (Augment(FULL), CentreCrop(24)):
        assert len(transform(batch_of(seeds=[]))) == 0
