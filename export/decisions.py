"""Where a model decides: what an artefact decided, and what the PyTorch model would have.

One decision that falls the other way changes all that comes after it. So the PyTorch model is made
to follow the artefact's decisions, and each of them is judged by itself, on the same past.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING

import numpy as np

from movinet_edge.bundle import Choice, Threshold
from movinet_edge.export.properties import Answers
from movinet_edge.export.verify_record import Decisions, Flip, measure
from movinet_edge.runtime.choice import decided

if TYPE_CHECKING:
    from torch import nn

    from movinet_edge.runtime import Stream

SUB_CLIP = 32


@dataclass(frozen=True)
class Taken:
    """The decisions of a stream of T frames.

    `numbers` int64 [T] are of the actions, `scores` float32 [T, actions] those of the last
    decision, `decided` bool [T] is whether there was one at the frame: not while a skip runs.
    """

    numbers: np.ndarray
    scores: np.ndarray
    decided: np.ndarray


def run_and_note(stream: Stream, frames: Iterable[np.ndarray]) -> tuple[np.ndarray, Taken | None]:
    """The answers [n, classes] to `frames`, and what was decided, if anything is."""
    answers, chooser = Answers(stream), stream.chooser
    if chooser is None:
        return answers.run(frames), None
    rows, numbers, scores, decided = [], list[int](), list[np.ndarray](), list[bool]()
    for frame in frames:
        decided.append(not chooser.holds)
        rows.append(answers.step(frame))
        numbers.append(chooser.number)
        scores.append(chooser.scores)
    return np.concatenate(rows), Taken(np.array(numbers), np.stack(scores), np.array(decided))


def follow(
    model: nn.Module, frames: Iterable[np.ndarray], numbers: np.ndarray | None = None
) -> tuple[np.ndarray, Taken]:
    """What the PyTorch model answers, and decides, on uint8 frames [H, W, 3].

    Args:
        model: an `ArNet`.
        numbers: of the actions to take instead of its own, [T].
    """
    import torch

    from movinet_edge.models.arnet import ArNet

    assert isinstance(model, ArNet)
    logits, scores, taken = list[np.ndarray](), list[np.ndarray](), list[np.ndarray]()
    rest, count, state = iter(frames), 0, dict[str, torch.Tensor]()
    while part := list(islice(rest, SUB_CLIP)):
        x = torch.from_numpy(np.stack(part)).permute(0, 3, 1, 2)[None].float() * (1 / 255)
        given = None
        if numbers is not None:
            given = torch.from_numpy(numbers[count : count + len(part)])[None]
        with torch.inference_mode():
            done = model.decide(x, state, given=given)
        assert done.scores is not None
        state, count = done.state, count + len(part)
        logits.append(done.logits[0].numpy())
        scores.append(done.scores[0].numpy())
        taken.append(done.decisions[0].argmax(1).numpy())
    skips = [action.skip for action in model.arch.actions]
    chosen = np.concatenate(taken)
    found = Taken(chosen, np.concatenate(scores), np.array(decided(chosen.tolist(), skips), bool))
    return np.concatenate(logits), found


def judged(choice: Choice, reference: np.ndarray, taken: Taken, limits: Threshold) -> Decisions:
    """Decisions against the reference's scores [T, actions] on the same past."""
    steps = np.flatnonzero(taken.decided[: len(reference)])
    wanted, got = reference[steps], taken.scores[steps]
    figures = measure(wanted, got, limits)
    allowed = 2 * limits.max_error * figures.deviation
    flips = []
    for step, row, mine in zip(steps, wanted, got, strict=True):
        best, own = int(row.argmax()), int(mine.argmax())
        if best != own:
            names = choice.actions[own].name, choice.actions[best].name
            margin = float(row[best] - row[own])
            flips.append(
                Flip(step=int(step), taken=names[0], best=names[1], margin=margin, allowed=allowed)
            )
    equal = 1 - len(flips) / len(steps)
    return Decisions(decided=len(steps), equal=equal, flips=tuple(flips), figures=figures)
