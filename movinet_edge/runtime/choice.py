"""What a plan decides at each frame: the action with the highest score, and skips that run on."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from movinet_edge.bundle import Action, Choice
from movinet_edge.errors import BadInput

LARGEST = 1e20  # bias either way


class Chooser:
    """The decisions of one stream; `action` is what is done with the present frame.

    `scores` [actions] are those of the last decision, before costs and noise; `waiting` counts the
    frames for which it still holds, this one included.

    Args:
        cost_bias: times an action's cost is subtracted from its score; more than 0 saves work.
        sample: a seed. Actions are then drawn by their probabilities, as in training.

    Raises:
        BadInput: a bias that is no number.
    """

    def __init__(self, choice: Choice, cost_bias: float = 0.0, sample: int | None = None):
        self.choice, self._seed = choice, sample
        costs = [action.cost for action in choice.actions]
        self._bias = np.float32(finite_bias(cost_bias)) * np.array(costs, np.float32)
        self.reset()

    def reset(self) -> None:
        """Begin a new stream."""
        self.waiting = 0
        self.scores = np.zeros(len(self._bias), np.float32)
        self._number = 0
        self._random = None if self._seed is None else np.random.default_rng(self._seed)

    @property
    def action(self) -> Action:
        return self.choice.actions[self._number]

    @property
    def number(self) -> int:
        """Of the action, in the order of the scores."""
        return self._number

    @property
    def holds(self) -> bool:
        """Whether a skip that was chosen before goes on at this frame."""
        return self.waiting > 0

    def decide(self, scores: np.ndarray) -> None:
        """Take the best action for scores [actions]; a skip begins to hold."""
        self.scores = scores
        biased = scores - self._bias
        if self._random is not None:
            shifted = biased - biased.max()
            logs = np.maximum(shifted - np.log(np.exp(shifted).sum()), np.log(np.float32(1e-8)))
            biased = logs + self._random.gumbel(size=biased.shape)
        self._number = int(np.argmax(biased))
        self.waiting = self.action.skip

    def end_frame(self) -> None:
        self.waiting = max(self.waiting - 1, 0)


def decided(actions: Sequence[int], skips: Sequence[int]) -> list[bool]:
    """At which frames there was a decision, given the numbers of the actions of all frames.

    Not while a skip runs; `skips` are those of all actions, 0 where one looks.
    """
    found, waiting = [], 0
    for action in actions:
        found.append(waiting == 0)
        waiting = max((waiting or skips[action]) - 1, 0)
    return found


def finite_bias(bias: float) -> float:
    """The cost bias itself.

    Raises:
        BadInput: it is no number, or one beyond reason, which float32 could not hold.
    """
    if not math.isfinite(bias) or abs(bias) > LARGEST:
        raise BadInput(
            f"the cost bias is a number, not {bias}, and at most {LARGEST:g} either way; 0 leaves "
            "decisions alone"
        )
    return bias
