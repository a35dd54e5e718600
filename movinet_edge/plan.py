"""The plan of a bundle: which graph runs when, what is decided, and what the answer is."""

from __future__ import annotations

import math
from typing import Literal, Self

from pydantic import Field, model_validator

from movinet_edge.record import Record


class Snippets(Record):
    """The clock of an encoder: a snippet of `frames` frames begins at every `hop`-th frame.

    With each the graph's states begin anew, and its features count when the snippet is complete.
    Frames between two snippets are not looked at.
    """

    frames: int = Field(ge=1)
    hop: int = Field(ge=1)


class Arrivals(Record):
    """When `count` new values of `feature` have come since the last run, and at a stream's end."""

    feature: str
    count: int = Field(ge=1)


class PlanStep(Record):
    """Run `graph` at every frame n with n % every == offset.

    With `when` only at frames for which the plan's `choice` is the action of that name; with
    `snippets` by the clock of an encoder; with `after` when so many new features are there.
    """

    graph: str
    every: int = Field(1, ge=1)
    offset: int = Field(0, ge=0)
    when: str | None = None
    snippets: Snippets | None = None
    after: Arrivals | None = None

    @model_validator(mode="after")
    def _is_reached(self) -> Self:
        if self.offset >= self.every:
            raise ValueError(f"graph {self.graph!r} would never run (offset {self.offset})")
        by_frames = self.every > 1 or self.when is not None
        if sum([by_frames, self.snippets is not None, self.after is not None]) > 1:
            raise ValueError(f"graph {self.graph!r} has more than one rule of when it runs")
        return self


class Action(Record):
    """What can be done with a frame.

    With a `skip` this frame and so many less one after it are not looked at. `cost` is that of a
    frame for which it is taken, all graphs that run counted (of a skip the share of each frame).
    """

    name: str
    skip: int = Field(0, ge=0)
    cost: float = Field(ge=0, allow_inf_nan=False)


class Choice(Record):
    """What is done with a frame: the action with the highest score in `output` of `graph`.

    `output` is [1, actions]; a host may subtract a multiple of their costs (in `unit`) first. An
    action that skips holds for `skip` frames, counted by the host: 0 before the first frame, set
    when one is taken, one less after every frame. While it is above 0 the graph does not run, its
    states stay as they are, and so does the choice. Where states are named in `going_on`, it runs
    all the same, and those alone take their new values.
    """

    graph: str
    output: str = "action"
    actions: tuple[Action, ...] = Field(min_length=2)
    unit: Literal["GFLOPs", "ms"] = "GFLOPs"
    going_on: tuple[str, ...] = ()

    @model_validator(mode="after")
    def _actions_are_told_apart(self) -> Self:
        if len({action.name for action in self.actions}) < len(self.actions):
            raise ValueError("two actions have one name")
        return self


class Plan(Record):
    """Which graph runs when, and what the answer is.

    Features pass between graphs by name. The answer is the output tensor `answer`: of the graph
    that ran last (``last``), or the mean over all graphs that have answered, each with its newest
    logits (``mean``; temporal ensembles), or the mean over all frames that were looked at, of what
    the last graph that ran at each says (``looks``; zeros before the first). Of probabilities the
    logarithms are averaged, which are the logits up to a constant.

    A network that looks ahead answers `delay` frames late: the first answer is that of frame number
    `delay`, and behind the last frame, so many more
    steps with ``valid`` 0 (on any frame) complete the answer.

    With a `choice` some graphs run only at frames for which their action was chosen.
    """

    steps: tuple[PlanStep, ...]
    answer: str = "logits"
    combine: Literal["last", "mean", "looks"] = "last"
    delay: int = Field(0, ge=0)
    choice: Choice | None = None

    @model_validator(mode="after")
    def _choice_comes_first(self) -> Self:
        actions = {} if self.choice is None else {a.name: a for a in self.choice.actions}
        if self.choice is not None:
            always = [step.graph for step in self.steps if step.when is None and step.every == 1]
            if self.choice.graph not in always[:1] or self.steps[0].graph != self.choice.graph:
                raise ValueError(f"graph {self.choice.graph!r} does not decide first")
        for step in self.steps:
            if step.when is None:
                continue
            if step.when not in actions:
                raise ValueError(
                    f"graph {step.graph!r} waits for an action {step.when!r} that is not there"
                )
            if actions[step.when].skip:
                raise ValueError(f"graph {step.graph!r} waits for {step.when!r}, which skips")
        return self

    @property
    def period(self) -> int:
        """After how many frames the plan repeats."""
        return math.lcm(*(step.every for step in self.steps))

    def whole(self, graph: str) -> Plan:
        """The plan where `graph` is the whole model, answers and decisions included."""
        changes = {"steps": (PlanStep(graph=graph),), "combine": "last", "choice": None}
        return self.model_copy(update=changes)
