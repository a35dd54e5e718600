"""Which videos meet in which step, on which process."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator

import numpy as np
from torch.utils.data import DataLoader, Sampler

from movinet_edge.data.clips import Batch, TrainClips, collate, loader
from movinet_edge.data.listing import Span, VideoSet
from movinet_edge.errors import BadInput
from movinet_edge.train.parallel import World


class Batches(Sampler[list[int]]):
    """This process's share of each of an epoch's batches, from batch `start` on.

    The order is that of (seed, epoch); what does not fill a batch is left out. With fewer videos
    than a batch has, the batch is as large as they allow.

    Raises:
        BadInput: the processes cannot share a batch evenly.
    """

    def __init__(self, videos: int, batch: int, world: World, seed: int):
        if batch % world.size:
            raise BadInput(f"a batch of {batch} cannot be shared evenly by {world.size} processes")
        self.batch = min(batch, videos - videos % world.size)
        if not self.batch:
            raise BadInput(f"{videos} videos are too few for {world.size} processes")
        self.videos, self.world, self.seed = videos, world, seed
        self.epoch, self.start = 0, 0

    def __len__(self) -> int:
        return self.videos // self.batch

    def __iter__(self) -> Iterator[list[int]]:
        order = np.random.default_rng([self.seed, self.epoch]).permutation(self.videos)
        for number in range(self.start, len(self)):
            whole = order[number * self.batch : (number + 1) * self.batch]
            yield whole[self.world.rank :: self.world.size].tolist()

    def load(self, clips: TrainClips, epoch: int, start: int, workers: int) -> DataLoader[Batch]:
        """The batches of an epoch from batch `start` on, decoded by `workers` processes."""
        clips.set_epoch(epoch)
        self.epoch, self.start = epoch, start
        return loader(
            clips,
            workers,
            batch_sampler=self,
            collate_fn=collate,
            pin_memory=self.world.device.type == "cuda",
        )


def fingerprint(videos: VideoSet) -> str:
    """A hash of which videos of which classes there are, wherever they lie."""
    digest = hashlib.sha256("\n".join(videos.labels).encode())
    for video in videos.videos:
        classes = " ".join(map(_written, video.spans))
        digest.update(f"\n{classes} {video.path.name} {video.start} {video.end}".encode())
    return digest.hexdigest()


def _written(span: Span) -> str:
    return f"{span.label}" if span.end is None else f"{span.label}:{span.start}:{span.end}"
