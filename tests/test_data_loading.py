"""Loading clips: random by their seeds only, and the same from workers and from the cache."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.utils.data import DataLoader

from movinet_edge.data import cache as cache_module
from movinet_edge.data.cache import FrameCache
from movinet_edge.data.clips import Batch, Broken, BrokenReport, Clip, TrainClips, collate
from movinet_edge.data.listing import VideoSet
from movinet_edge.errors import BadInput
from movinet_edge.runtime.video import VideoFile
from tests.data_sets import good, of_class, video_set
from tests.disks import Mount
from tests.videos import film, with_sound

# Randomness --------------------------------------------------------------------------------


def clips_of(loader: DataLoader[Clip | Broken]) -> list[tuple[Tensor, int, int]]:
    found = []
    for batch in loader:
        parts = zip(batch.frames, batch.targets.tolist(), batch.seeds.tolist(), strict=True)
        found += [(frames.clone(), label, seed) for frames, label, seed in parts]
    return found


def same(one: Sequence[tuple[Tensor, int, int]], two: Sequence[tuple[Tensor, int, int]]) -> bool:
    return len(one) == len(two) and all(
        torch.equal(a[0], b[0]) and a[1:] == b[1:] for a, b in zip(one, two, strict=True)
    )


@pytest.fixture
def many(tmp_path: Path, video_files: dict[str, Path]) -> VideoSet:
    """Videos of several sizes, and one that is broken."""
    (tmp_path / "text.mp4").write_text("no video")
    film(tmp_path / "tall.mp4", size=(102, 48))
    film(tmp_path / "odd.mkv", size=(48, 101), codec="ffv1", pix_fmt="bgr0")
    paths = [*video_files.values(), tmp_path / "tall.mp4", tmp_path / "odd.mkv"]
    paths.append(tmp_path / "text.mp4")
    return video_set(*(of_class(path, n % 2) for n, path in enumerate(paths)))


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


def test_the_seed_the_epoch_and_the_index_matter(video_files: dict[str, Path]) -> None:
    path = video_files["h264.mp4"]
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
    broken = Broken(Path("x"), "is bad")
    batch = collate(
        [Clip(frames, np.array(1), 0, 11), broken, Clip(frames[:, :, 1:], np.array(0), 1, 1 << 62)]
    )
    build, parts = batch.__reduce__()
    again = build(*parts)  # type: ignore[operator,misc]
    for one in (batch, again):
        assert isinstance(one, Batch)
        assert [f.tolist() for f in one.frames] == [frames.tolist(), frames[:, :, 1:].tolist()]
        assert one.targets.tolist() == [1, 0]
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
                    [(one.frames, int(one.target), one.seed)],
                    [(good(two).frames, int(good(two).target), good(two).seed)],
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


@pytest.mark.parametrize("workers", [0, 1])
def test_a_full_disk_ends_the_training(tmp_path: Path, mounted: Mount, workers: int) -> None:
    """With one sentence, also from a worker; no other video would fit either."""
    path, disk = film(tmp_path / "v.mp4", 20), mounted("size=64k")
    clips = TrainClips(video_set(path), 2, 5, 48, cache=FrameCache(disk))
    loader: DataLoader[Any] = DataLoader(clips, num_workers=workers, collate_fn=collate)
    (batch,) = loader
    with pytest.raises(BadInput, match=r"^the disk is full: .* was not written; free some space"):
        BrokenReport().add(batch.broken)
    assert list(disk.iterdir()) == []


def test_a_cache_that_cannot_be(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(BadInput, match="cannot be written"):
        FrameCache(tmp_path / "file" / "cache")
