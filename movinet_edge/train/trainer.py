"""One training run: from a recipe and a data set to checkpoints, resumable at any step.

All randomness is a function of the recipe's seed and of *what* is computed (epoch and video for
clips and their augmentation; step and process for dropout), never of what was computed before.
So nothing but weights, optimiser and position has to be saved to go on exactly where a killed run
stopped, and clips do not depend on the number of workers or processes.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import asdict, dataclass
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from movinet_edge.checkpoints.native import Checkpoint, with_weights
from movinet_edge.data.augment import Augment, AugmentConfig
from movinet_edge.data.cache import FrameCache
from movinet_edge.data.clips import Batch, BrokenReport, TrainClips
from movinet_edge.data.listing import VideoSet
from movinet_edge.errors import BadInput
from movinet_edge.streaming.state import State
from movinet_edge.train.adaptive import adaptive
from movinet_edge.train.batches import Batches, fingerprint
from movinet_edge.train.evaluate import EvalRecord
from movinet_edge.train.optim import averaged, freeze, make_optimizer, make_schedule, train_mode
from movinet_edge.train.parallel import World, synchronise_norms
from movinet_edge.train.recipe import Recipe
from movinet_edge.train.rounding import Rounding
from movinet_edge.train.run_folder import BEST, EPOCHS, LAST, STEPS, RunFolder
from movinet_edge.train.subclips import clip_backward
from movinet_edge.train.transfer import starting_point
from movinet_edge.train.validation import AUTOCAST, validate


@dataclass(frozen=True)
class TrainOptions:
    """How a run is carried out; nothing here changes the weights it arrives at.

    Except that with a cache a damaged file is always left out (see `TrainClips`).
    """

    workers: int = 0
    cache: Path | None = None
    save_every: int = 200  # steps
    log_every: int = 10  # steps


@dataclass(frozen=True)
class Progress:
    """Where a run stands; at an epoch's end `loss` is its mean and `val` what validation found."""

    step: int
    steps: int
    epoch: int
    loss: float
    ends_epoch: bool = False
    val: EvalRecord | None = None


@dataclass
class Tally:
    """What an epoch added up to so far; it is saved with the state."""

    loss: float = 0.0  # sum over `steps`
    steps: int = 0
    clips: int = 0

    @property
    def mean(self) -> float:
        return self.loss / self.steps if self.steps else float("nan")


class Trainer:
    """A run in progress. `train` and `val` are the videos; labels are those of `train`.

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
        self.recipe, self.val = recipe, val
        self.folder, self.world, self.options = folder, world, options
        self.start = starting_point(recipe, train.labels, train.multi_label)
        contract = self.start.preprocessing
        if len(train.labels) < 2:
            raise BadInput(
                f"{train.source} has one class only ({', '.join(train.labels)}); --data takes a "
                "folder with a folder for each class"
            )
        if not self.start.arch.causal and recipe.subclips > 1:
            raise BadInput("a base model sees whole clips; train it with one sub-clip")
        self.data = fingerprint(train)
        short_side = recipe.short_side or round(contract.height * 1.12)
        cache = FrameCache(options.cache) if options.cache else None
        self.clips = TrainClips(
            *(train, recipe.frames, contract.frame_rate, short_side, recipe.seed, cache),
            sampling=recipe.sampling,
        )
        self.augment = Augment(_augmentation(recipe, contract.height))
        self.batches = Batches(len(train), recipe.batch, world, recipe.seed)
        self.steps = recipe.epochs * len(self.batches)
        self.broken, self.tally = BrokenReport(say), Tally()
        self._build()

    def _build(self) -> None:
        recipe, device = self.recipe, self.world.device
        model: nn.Module = self.start.model.to(device)
        self.adaptive = adaptive(model, recipe)
        freeze(model, recipe)
        if recipe.channels_last:
            for parameter in model.parameters():
                if parameter.dim() == 4:
                    parameter.data = parameter.data.to(memory_format=torch.channels_last)
        self.ema = averaged(model, recipe.ema) if recipe.ema else None
        if self.world.size > 1:
            model = synchronise_norms(model, device)
            model = DistributedDataParallel(
                model,
                device_ids=[device] if device.type == "cuda" else None,
                broadcast_buffers=False,
            )
        self.model = model
        self.optimizer = make_optimizer(self.bare, recipe)
        self.schedule = make_schedule(self.optimizer, recipe, self.steps)
        self.scaler = torch.amp.GradScaler(device.type, enabled=recipe.precision == "fp16")
        self.step, self.epochs_done, self.best = 0, 0, -1.0
        # Last: the averaged weights are a copy of the bare model.
        self.int8 = Rounding(self.bare, recipe, self.world) if recipe.qat else None

    @property
    def bare(self) -> nn.Module:
        """The model without the wrapper of distributed training."""
        return self.model.module if isinstance(self.model, DistributedDataParallel) else self.model

    def run(self, progress: Callable[[Progress], None]) -> EvalRecord | None:
        """Train to the end; returns the last epoch's validation.

        Raises:
            BadInput: all videos are broken, the disk is full, or the loss is no longer finite.
        """
        record = None
        if self.int8 is not None:
            self.int8.calibrate(self._observe)
        for epoch in range(self.epochs_done, self.recipe.epochs):
            tell = partial(self._tell, progress, epoch)
            self._epoch(epoch, tell)
            loss = self.tally.mean
            record = self._close_epoch(epoch)
            tell(loss, True, record)
        self.folder.close()
        return record

    def _tell(
        self,
        progress: Callable[[Progress], None],
        epoch: int,
        loss: float,
        ends_epoch: bool = False,
        val: EvalRecord | None = None,
    ) -> None:
        progress(Progress(self.step, self.steps, epoch, loss, ends_epoch, val))

    def _epoch(self, epoch: int, tell: Callable[[float], None]) -> None:
        """All remaining batches of one epoch."""
        start = self.step - epoch * len(self.batches)
        loader = self.batches.load(self.clips, epoch, start, self.options.workers)
        train_mode(self.bare, self.recipe)
        if self.adaptive is not None:
            self.adaptive.begin(epoch)
        presented, began = 0, time.perf_counter()
        for batch in loader:
            self.broken.add(batch.broken)
            presented += len(batch.frames) + len(batch.broken)
            lr = self.recipe.lr * float(self.schedule.lr_lambdas[0](self.step))
            loss = self._one_step(batch)
            self.step += 1
            self.tally.clips += len(batch.frames)
            if loss is not None:
                self.tally.loss += loss
                self.tally.steps += 1
                self._log_step(epoch, loss, lr, time.perf_counter() - began)
                tell(loss)
            began = time.perf_counter()
            if self.step % self.options.save_every == 0 and self.step % len(self.batches):
                self._save_state()
        if self.world.total(self.tally.clips) == 0:
            self.broken.check(presented)

    def _seed(self, step: int) -> None:
        numbers = [self.recipe.seed, step, self.world.rank]
        torch.manual_seed(int(np.random.SeedSequence(numbers).generate_state(1)[0]))

    def _one_step(self, batch: Batch) -> float | None:
        """One update; the loss over all processes, None when a process has no readable clip."""
        recipe, world = self.recipe, self.world
        self._seed(self.step)
        # All or none: the others would wait for this process's gradients.
        if not world.smallest(len(batch.frames)):
            return None
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
        loss = self._update(mean)
        self.schedule.step()
        return loss

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
            presented += len(batch.frames) + len(batch.broken)
            self._seed(number)
            if len(batch.frames):
                self.bare(self.augment(batch, self.world.device))
        self.int8.share()
        if not self.int8.instrument.seen:
            self.broken.check(presented)

    def _penalty(self, state: State) -> Tensor:
        if self.adaptive is not None:
            return self.adaptive.loss(state)
        assert self.int8 is not None
        return self.int8.penalty()

    def _update(self, mean: Tensor) -> float:
        self.scaler.unscale_(self.optimizer)
        parameters = [p for p in self.bare.parameters() if p.requires_grad]
        nn.utils.clip_grad_norm_(parameters, self.recipe.clip_norm)
        self.scaler.step(self.optimizer)
        self.scaler.update()
        self.optimizer.zero_grad(set_to_none=True)
        if self.ema is not None:
            self.ema.update_parameters(self.bare)
        loss = float(self.world.mean(mean))
        if not np.isfinite(loss):
            raise BadInput(
                f"the loss is {loss} at step {self.step}; lower the learning rate or use fp32"
            )
        return loss

    def _autocast(self) -> AbstractContextManager[object]:
        dtype = AUTOCAST.get(self.recipe.precision)
        return torch.autocast(self.world.device.type, dtype, enabled=dtype is not None)

    def _no_sync(self) -> AbstractContextManager[object]:
        model = self.model
        return model.no_sync() if isinstance(model, DistributedDataParallel) else nullcontext()

    def _log_step(self, epoch: int, loss: float, lr: float, seconds: float) -> None:
        """A row for the step just done; `seconds` since the one before, decoding included."""
        if self.world.leads and self.step % self.options.log_every == 0:
            row = {"step": self.step, "epoch": epoch, "loss": loss, "lr": lr}
            speed = {"clips_per_second": self.batches.batch / seconds}
            self.folder.log(STEPS, row | speed)

    def checkpoint(self) -> Checkpoint:
        """The model as it would be used now: averaged weights, if the recipe averages."""
        model = self.bare if self.ema is None else self.ema.module
        assert isinstance(model, nn.Module)
        weights = {name: value.detach().cpu() for name, value in model.state_dict().items()}
        start = self.start
        return Checkpoint(
            with_weights(start.arch, weights, self.folder.path), start.preprocessing, start.labels
        )

    def _close_epoch(self, epoch: int) -> EvalRecord | None:
        """Validate and save; without validation videos the last epoch counts as the best."""
        if self.val is not None:  # which takes its time, and may fail
            self._save_state()
        checkpoint = self.checkpoint()
        record = self._validate(checkpoint)
        score = record.score if record is not None else float(epoch)
        better = score > self.best
        self.best = max(self.best, score)
        self.epochs_done = epoch + 1
        mean, self.tally = self.tally.mean, Tally()
        if self.world.leads:
            row: dict[str, float] = {"step": self.step, "epoch": epoch, "loss": mean}
            if record is not None:
                row |= {"val_top1": record.top1, "val_top5": record.top5}
                if record.multi_label:
                    row["val_map"] = record.score
            self.folder.log(EPOCHS, row | {"skipped_videos": len(self.broken)})
            self.folder.save_checkpoint(checkpoint, LAST)
            if better:
                self.folder.save_checkpoint(checkpoint, BEST)
        self._save_state()
        return record

    def _validate(self, checkpoint: Checkpoint) -> EvalRecord | None:
        """Accuracy on the held-out videos; with `qat` that of the simulated int8 model."""
        if self.val is None:
            return None
        model = checkpoint.model.to(self.world.device)
        with self.int8.lent(model) if self.int8 is not None else nullcontext():
            return validate(checkpoint, self.val, self.recipe, self.options.workers)

    def _save_state(self) -> None:
        if not self.world.leads:
            return
        self.folder.save_state(
            {
                **{name: part.state_dict() for name, part in self._parts().items()},
                "step": self.step,
                "epochs_done": self.epochs_done,
                "best": self.best,
                "tally": asdict(self.tally),
                "broken": {str(path): reason for path, reason in self.broken.reasons.items()},
                "data": self.data,
            }
        )

    def resume(self) -> None:
        """Go on from the last saved state; a run that saved none begins again.

        Raises:
            BadInput: the state is damaged, or the data are not those the run began with.
        """
        state = self.folder.state()
        if state is None:
            if self.world.leads:
                self.folder.forget_after(0, 0)
            return
        if state["data"] != self.data:
            raise BadInput(
                f"the run in {self.folder.path} began with other videos; resume it with the same "
                "--data or start a new run"
            )
        for name, part in self._parts().items():
            part.load_state_dict(state[name])
        self.step, self.epochs_done = state["step"], state["epochs_done"]
        self.best, self.tally = state["best"], Tally(**state["tally"])
        self.broken.reasons |= {Path(path): text for path, text in state["broken"].items()}
        if self.world.leads:
            self.folder.forget_after(self.step, self.epochs_done)

    def _parts(self) -> dict[str, Any]:
        parts = {"model": self.bare, "optimizer": self.optimizer}
        parts |= {"schedule": self.schedule, "scaler": self.scaler}
        if self.int8 is not None:
            parts["int8"] = self.int8.instrument
        return parts if self.ema is None else parts | {"ema": self.ema}


def _augmentation(recipe: Recipe, size: int) -> AugmentConfig:
    return AugmentConfig(
        size=size,
        scale=recipe.crop_scale,
        ratio=recipe.crop_ratio,
        flip=recipe.flip,
        brightness=recipe.brightness,
        contrast=recipe.contrast,
        saturation=recipe.saturation,
    )
