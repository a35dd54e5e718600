"""The loop of every training run: steps, epochs, logs, and what resumes it at any step.

All randomness is a function of the recipe's seed and of *what* is computed (epoch and video for
clips and their augmentation; step and process for dropout), never of what was computed before.
So nothing but weights, optimiser and position has to be saved to go on exactly where a killed run
stopped, and clips do not depend on the number of workers or processes.
"""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any, Generic, Protocol, TypeVar

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from movinet_edge.checkpoints.native import Checkpoint, with_weights
from movinet_edge.data.clips import Broken, BrokenReport
from movinet_edge.errors import BadInput
from movinet_edge.train.batches import Batches
from movinet_edge.train.optim import averaged, freeze, make_optimizer, make_schedule, train_mode
from movinet_edge.train.parallel import World, synchronise_norms
from movinet_edge.train.recipe import Recipe
from movinet_edge.train.run_folder import BEST, EPOCHS, LAST, STEPS, RunFolder
from movinet_edge.train.validation import AUTOCAST


class Scored(Protocol):
    """What a validation found; more `score` is better."""

    @property
    def score(self) -> float: ...
    @property
    def score_name(self) -> str: ...
    @property
    def logged(self) -> Mapping[str, float]:
        """Columns of the table of epochs."""

    @property
    def videos(self) -> int: ...


class Loaded(Protocol):
    """A batch: how many examples it has, and which gave none."""

    @property
    def count(self) -> int: ...
    @property
    def broken(self) -> tuple[Broken, ...]: ...


B = TypeVar("B", bound=Loaded)


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
    val: Scored | None = None


@dataclass
class Tally:
    """What an epoch added up to so far; it is saved with the state."""

    loss: float = 0.0  # sum over `steps`
    steps: int = 0
    clips: int = 0

    @property
    def mean(self) -> float:
        return self.loss / self.steps if self.steps else float("nan")


class Loop(ABC, Generic[B]):
    """A run in progress; what is learnt from which examples is up to the subclass.

    Args:
        start: the model that it begins with.
        data: a fingerprint of the examples.
        say: is told of every video that cannot be used, once.
    """

    def __init__(
        self,
        recipe: Recipe,
        start: Checkpoint,
        data: str,
        batches: Batches,
        folder: RunFolder,
        world: World,
        options: TrainOptions,
        say: Callable[[str], None] | None = None,
    ):
        self.recipe, self.start, self.data, self.batches = recipe, start, data, batches
        self.folder, self.world, self.options = folder, world, options
        self.steps = recipe.epochs * len(batches)
        self.broken, self.tally = BrokenReport(say), Tally()
        self._build()

    @abstractmethod
    def _load(self, epoch: int, start: int) -> Iterable[B]:
        """The batches of an epoch from batch `start` on."""

    @abstractmethod
    def _learn(self, batch: B) -> Tensor:
        """Forward and backward of a batch that is not empty: its mean loss, detached."""

    @property
    @abstractmethod
    def validates(self) -> bool: ...

    @abstractmethod
    def _validate(self, checkpoint: Checkpoint) -> Scored | None: ...

    def _before(self) -> None:
        """Before the first epoch, also of a run that is resumed."""

    def _trained(self, model: nn.Module) -> nn.Module:
        """What is called in a step: the model itself, or what is around it."""
        return model

    def _build(self) -> None:
        recipe, device = self.recipe, self.world.device
        self.bare: nn.Module = self.start.model.to(device)
        freeze(self.bare, recipe)
        if recipe.channels_last:
            for parameter in self.bare.parameters():
                if parameter.dim() == 4:
                    parameter.data = parameter.data.to(memory_format=torch.channels_last)
        self.ema = averaged(self.bare, recipe.ema) if recipe.ema else None
        if self.world.size > 1:
            self.bare = synchronise_norms(self.bare, device)
        self.model = self._trained(self.bare)
        if self.world.size > 1:
            self.model = DistributedDataParallel(
                self.model,
                device_ids=[device] if device.type == "cuda" else None,
                broadcast_buffers=False,
            )
        self.optimizer = make_optimizer(self.bare, recipe)
        self.schedule = make_schedule(self.optimizer, recipe, self.steps)
        self.scaler = torch.amp.GradScaler(device.type, enabled=recipe.precision == "fp16")
        self.step, self.epochs_done, self.best = 0, 0, -1.0

    def run(self, progress: Callable[[Progress], None]) -> Scored | None:
        """Train to the end; returns the last epoch's validation.

        Raises:
            BadInput: all videos are broken, the disk is full, or the loss is no longer finite.
        """
        record = None
        self._before()
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
        val: Scored | None = None,
    ) -> None:
        progress(Progress(self.step, self.steps, epoch, loss, ends_epoch, val))

    def _epoch(self, epoch: int, tell: Callable[[float], None]) -> None:
        """All remaining batches of one epoch."""
        start = self.step - epoch * len(self.batches)
        loader = self._load(epoch, start)
        train_mode(self.bare, self.recipe)
        presented, began = 0, time.perf_counter()
        for batch in loader:
            self.broken.add(batch.broken)
            presented += batch.count + len(batch.broken)
            lr = self.recipe.lr * float(self.schedule.lr_lambdas[0](self.step))
            loss = self._one_step(batch)
            self.step += 1
            self.tally.clips += batch.count
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

    def _one_step(self, batch: B) -> float | None:
        """One update; the loss over all processes, None when a process has nothing to learn."""
        self._seed(self.step)
        # All or none: the others would wait for this process's gradients.
        if not self.world.smallest(batch.count):
            return None
        loss = self._update(self._learn(batch))
        self.schedule.step()
        return loss

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

    def _close_epoch(self, epoch: int) -> Scored | None:
        """Validate and save; without validation videos the last epoch counts as the best."""
        if self.validates:  # which takes its time, and may fail
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
                row |= {f"val_{name}": value for name, value in record.logged.items()}
            self.folder.log(EPOCHS, row | {"skipped_videos": len(self.broken)})
            self.folder.save_checkpoint(checkpoint, LAST)
            if better:
                self.folder.save_checkpoint(checkpoint, BEST)
        self._save_state()
        return record

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
        """What has a state besides."""
        parts: dict[str, Any] = {"model": self.bare, "optimizer": self.optimizer}
        parts |= {"schedule": self.schedule, "scaler": self.scaler}
        return parts if self.ema is None else parts | {"ema": self.ema}
