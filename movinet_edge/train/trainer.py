"""Training classifiers: from a recipe and a data set to checkpoints, resumable at any step."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from contextlib import nullcontext
from itertools import islice
from typing import Any

import torch
from torch import Tensor

from movinet_edge.checkpoints.native import Checkpoint
from movinet_edge.data.augment import Augment, AugmentConfig
from movinet_edge.data.cache import FrameCache
from movinet_edge.data.clips import Batch, TrainClips
from movinet_edge.data.listing import VideoSet
from movinet_edge.errors import BadInput
from movinet_edge.streaming.state import State
from movinet_edge.train.adaptive import adaptive
from movinet_edge.train.batches import Batches, fingerprint
from movinet_edge.train.evaluate import EvalRecord
from movinet_edge.train.loop import Loop, TrainOptions
from movinet_edge.train.parallel import World
from movinet_edge.train.recipe import Recipe
from movinet_edge.train.rounding import Rounding
from movinet_edge.train.run_folder import RunFolder
from movinet_edge.train.subclips import clip_backward
from movinet_edge.train.transfer import starting_point
from movinet_edge.train.validation import validate


class Trainer(Loop[Batch]):
    """A classifier's run in progress. `train` and `val` are videos; labels are those of `train`.

    `say` is told of every video that cannot be used, once.
    """

    def __init__(
        self,
        recipe: Recipe,
        train: VideoSet,
        val: VideoSet | None,
        folder: RunFolder,
        world: World,
        options: TrainOptions,
        say: Callable[[str], None] | None = None,
    ):
        self.val = val
        start = starting_point(recipe, train.labels, train.multi_label)
        contract = start.preprocessing
        if len(train.labels) < 2:
            raise BadInput(
                f"{train.source} has one class only ({', '.join(train.labels)}); --data takes a "
                "folder with a folder for each class"
            )
        if not start.arch.causal and recipe.subclips > 1:
            raise BadInput("a base model sees whole clips; train it with one sub-clip")
        short_side = recipe.short_side or round(contract.height * 1.12)
        cache = FrameCache(options.cache) if options.cache else None
        self.clips = TrainClips(
            *(train, recipe.frames, contract.frame_rate, short_side, recipe.seed, cache),
            sampling=recipe.sampling,
        )
        self.augment = Augment(augmentation(recipe, contract.height))
        batches = Batches(len(train), recipe.batch, world, recipe.seed)
        super().__init__(recipe, start, fingerprint(train), batches, folder, world, options, say)

    def _build(self) -> None:
        self.adaptive = adaptive(self.start.model, self.recipe)
        super()._build()
        # Last: the averaged weights are a copy of the bare model.
        self.int8 = Rounding(self.bare, self.recipe, self.world) if self.recipe.qat else None

    def _before(self) -> None:
        if self.int8 is not None:
            self.int8.calibrate(self._observe)

    def _load(self, epoch: int, start: int) -> Iterable[Batch]:
        if self.adaptive is not None:
            self.adaptive.begin(epoch)
        return self.batches.load(self.clips, epoch, start, self.options.workers)

    def _learn(self, batch: Batch) -> Tensor:
        recipe, world = self.recipe, self.world
        if self.int8 is not None:
            self.int8.begin(self.step)
        clip = self.augment(batch, world.device)
        if recipe.channels_last:
            flat = clip.flatten(0, 1).contiguous(memory_format=torch.channels_last)
            clip = flat.unflatten(0, clip.shape[:2])
        mean, _ = clip_backward(
            self.model,
            clip,
            batch.targets.to(world.device),
            recipe.subclips,
            recipe.gradients == "keep",
            recipe.label_smoothing,
            self._autocast,
            self.scaler.scale,
            self._no_sync,
            self._penalty if recipe.range_penalty or self.adaptive else None,
            recipe.class_weight if self.adaptive else 1.0,
        )
        if self.int8 is not None:
            self.int8.share()
        return mean

    @torch.no_grad()
    def _observe(self) -> None:
        """Let the model see the first batches, as training will.

        Raises:
            BadInput: all videos are broken.
        """
        assert self.int8 is not None
        self.bare.eval()
        presented = 0
        loader = self.batches.load(self.clips, 0, 0, self.options.workers)
        for number, batch in enumerate(islice(loader, self.recipe.qat_batches)):
            self.broken.add(batch.broken)
            presented += batch.count + len(batch.broken)
            self._seed(number)
            if batch.count:
                self.bare(self.augment(batch, self.world.device))
        self.int8.share()
        if not self.int8.instrument.seen:
            self.broken.check(presented)

    def _penalty(self, state: State) -> Tensor:
        if self.adaptive is not None:
            return self.adaptive.loss(state)
        assert self.int8 is not None
        return self.int8.penalty()

    @property
    def validates(self) -> bool:
        return self.val is not None

    def _validate(self, checkpoint: Checkpoint) -> EvalRecord | None:
        """Accuracy on the held-out videos; with `qat` that of the simulated int8 model."""
        if self.val is None:
            return None
        model = checkpoint.model.to(self.world.device)
        with self.int8.lent(model) if self.int8 is not None else nullcontext():
            return validate(checkpoint, self.val, self.recipe, self.options.workers)

    def _parts(self) -> dict[str, Any]:
        parts = super()._parts()
        if self.int8 is not None:
            parts["int8"] = self.int8.instrument
        return parts


def augmentation(recipe: Recipe, size: int) -> AugmentConfig:
    """Of a recipe, for square frames of `size` pixels."""
    return AugmentConfig(
        size=size,
        scale=recipe.crop_scale,
        ratio=recipe.crop_ratio,
        flip=recipe.flip,
        brightness=recipe.brightness,
        contrast=recipe.contrast,
        saturation=recipe.saturation,
    )
