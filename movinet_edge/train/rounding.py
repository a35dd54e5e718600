"""Simulated int8 in a training run: when it rounds, and on which ranges (`qat` of a recipe)."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from torch import Tensor, nn

from movinet_edge.models.arch import VideoModel
from movinet_edge.models.registry import simulated
from movinet_edge.streaming.instrument import Instrument
from movinet_edge.train.parallel import World
from movinet_edge.train.recipe import Recipe


class Rounding:
    """Quantisers in the model that is trained, bare of wrappers.

    Raises:
        BadInput: it has parts that static int8 lacks.
    """

    def __init__(self, model: nn.Module, recipe: Recipe, world: World):
        self.recipe, self.world = recipe, world
        self.instrument = _quantisers(model)
        self.instrument.penalise(recipe.range_penalty > 0)

    def calibrate(self, observe: Callable[[], None]) -> None:
        """The first ranges, unless a run that is resumed has some.

        `observe` lets the model see the first batches.
        """
        if self.instrument.seen:
            return
        self.instrument.watch("all")
        observe()
        if self.recipe.spread and self.instrument.sites:
            self.instrument.even(self.recipe.spread)
            observe()

    def begin(self, step: int) -> None:
        """Whether the step to come rounds, a function of its number alone."""
        self.instrument.watch("average")
        self.instrument.quantise(None if step >= self.recipe.qat_after else [])

    def share(self) -> None:
        """What a process has seen, all have seen."""
        if self.world.size > 1:
            self.instrument.synchronise()

    def penalty(self) -> Tensor:
        """What is added to the loss of the last pass."""
        return self.recipe.range_penalty * self.instrument.penalty(self.recipe.spread)

    @contextmanager
    def lent(self, model: nn.Module) -> Iterator[None]:
        """Another `model` rounds as the one in training; afterwards it is as before."""
        instrument = _quantisers(model)
        instrument.load_state_dict(self.instrument.state_dict())
        instrument.quantise()
        try:
            yield
        finally:
            instrument.detach()


def _quantisers(model: nn.Module) -> Instrument:
    assert isinstance(model, VideoModel)
    return simulated(model)
