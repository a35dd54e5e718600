"""What enters each graph of a plan on calibration videos, computed by its float modules."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

import numpy as np
import torch
from torch import Tensor

from movinet_edge.bundle import Rescale
from movinet_edge.export.step_module import FRAME, StepModule
from movinet_edge.runtime.rescale import rescale
from movinet_edge.streaming.deploy import NEW, VALID, StateSpec

T = TypeVar("T")
# One step's inputs besides the states, by name.
Inputs = Mapping[str, np.ndarray]


def named(item: np.ndarray | Inputs) -> Inputs:
    """A step's inputs by name; of graphs that take nothing else, streams hold the frames alone."""
    return {FRAME: item} if isinstance(item, np.ndarray) else item


@dataclass(frozen=True)
class Feed:
    """The inputs of the last of `steps` on a video, in the order of its runs; states left out.

    `steps` are a plan's graphs, in order, up to the one that is fed; if it takes features, all but
    the last are run. Frames are made smaller for it by the rule `rescale`. Where graphs are chosen
    from, each is fed with all frames, for any may be chosen.
    """

    steps: Sequence[StepModule]
    video: Iterable[np.ndarray]
    rescale: Rescale | None = None

    def __iter__(self) -> Iterator[Inputs]:
        *before, last = self.steps
        runs = [_Run(step) for step in before] if last.part.features else []
        ages = [a for s in self.steps for f in s.part.features for a in f.inputs.values()]
        made: dict[str, deque[Tensor]] = {}
        for number, frame in enumerate(self.video):
            for run in runs:
                if number % run.step.part.every == 0:
                    for name, value in run(_inputs(run.step, frame, made)).items():
                        made.setdefault(name, deque(maxlen=1 + max(ages))).appendleft(value)
            if number % last.part.every == 0:
                given = _inputs(last, self._scaled(frame, last), made)
                yield {name: value.numpy() for name, value in given.items()}

    def _scaled(self, frame: np.ndarray, step: StepModule) -> np.ndarray:
        """Frames float32 [1, H, W, 3] as a step takes them."""
        if step.part.side is None or self.rescale is None:
            return frame
        return rescale(frame[0], step.part.side, step.part.side, self.rescale)[None]


def _inputs(
    step: StepModule, frame: np.ndarray, made: Mapping[str, Sequence[Tensor]]
) -> dict[str, Tensor]:
    """Frame, flag and features of one run; features of before the first frame are zeros."""
    found: dict[str, Tensor] = {}
    shapes = step.inputs()
    for name, (shape, _) in shapes.items():
        if name == FRAME:
            found[name] = torch.from_numpy(frame)
        elif name == VALID:
            found[name] = torch.ones(shape)
    for feature in step.part.features:
        values = made.get(feature.name, ())
        for name, age in feature.inputs.items():
            known = age < len(values)
            found[name] = values[age] if known else torch.zeros(shapes[name][0])
    return found


class _Run:
    """A graph in a stream; calling it gives the features of a step."""

    def __init__(self, step: StepModule):
        self.step, self.states = step, Carried(step.states, step.sample())

    def __call__(self, inputs: Mapping[str, Tensor]) -> dict[str, Tensor]:
        with torch.no_grad():
            outputs = self.step(**inputs, **self.states.inputs())
        self.states.take(outputs)
        return {name: value for name, value in outputs.items() if not name.endswith(NEW)}


class Carried(Generic[T]):
    """The states of a graph from step to step, in the fresh or the carry form.

    `zeros` holds the first values of all of them by input name.
    """

    def __init__(self, rules: Sequence[StateSpec], zeros: Mapping[str, T]):
        self._queues: list[tuple[str, list[str], deque[T]]] = []
        for rule in rules:
            names = [n for n in rule.fresh_inputs if n in zeros] or [rule.carry_input]
            first = [zeros[name] for name in names]
            if rule.rule == "delay":
                first *= rule.past
            self._queues.append((rule.carry_input, names, deque(first, len(first))))

    def inputs(self) -> dict[str, T]:
        """What enters the next step; of a delay only the oldest value."""
        return {
            name: value
            for _, names, queue in self._queues
            for name, value in zip(names, queue, strict=False)
        }

    def take(self, outputs: Mapping[str, T]) -> None:
        """Take over what a step gave."""
        for name, _, queue in self._queues:
            new = name + NEW
            queue.append(outputs[new if new in outputs else name])
