"""What a step of stage lofi holds in memory, measured before a run begins."""

from __future__ import annotations

import math
from collections.abc import Callable
from copy import deepcopy
from dataclasses import dataclass

import torch

from movinet_edge.checkpoints.native import Checkpoint
from movinet_edge.errors import BadInput
from movinet_edge.models.localizer import Localizer
from movinet_edge.train.fidelity import REDUCTIONS, SHARES, Fidelity
from movinet_edge.train.localization_loss import localization_loss
from movinet_edge.train.localizing import Scoring, fidelities, still
from movinet_edge.train.memory import peak_memory
from movinet_edge.train.optim import freeze, make_optimizer, train_mode
from movinet_edge.train.recipe import Recipe
from movinet_edge.train.validation import AUTOCAST

GIGABYTE = 1e9


@dataclass(frozen=True)
class Need:
    """What a step with `videos` videos at a fidelity needs, in bytes; inf: more than there is."""

    fidelity: Fidelity
    snippets: int
    side: int
    videos: int
    bytes: float

    @property
    def memory(self) -> str:
        return "too much" if self.bytes == math.inf else f"{self.bytes / GIGABYTE:.2f} GB"

    def __str__(self) -> str:
        return (
            f"{self.fidelity.name}: {self.snippets} snippets of {self.side} pixels, "
            f"{self.videos} videos: {self.memory}"
        )


def step_bytes(
    start: Checkpoint, recipe: Recipe, fidelity: Fidelity, videos: int, device: torch.device
) -> int:
    """The peak of one step of random videos: weights, gradients, averages, frames, activations."""
    model = start.model
    assert isinstance(model, Localizer)
    arch = model.arch
    snippets, side = fidelity.snippets(arch.head.snippets), fidelity.side(start.preprocessing.width)
    kind = AUTOCAST.get(recipe.precision)

    def step() -> None:
        copy = deepcopy(model).to(device)
        still(copy, seen=True)
        freeze(copy, recipe)
        train_mode(copy, recipe)
        optimizer = make_optimizer(copy, recipe)
        for parameter in copy.parameters():
            parameter.grad = torch.zeros_like(parameter) if parameter.requires_grad else None
        optimizer.step()  # makes the averages that it keeps
        average = deepcopy(copy) if recipe.ema else None
        optimizer.zero_grad(set_to_none=True)
        frames = torch.rand(videos, snippets, arch.clip_frames, 3, side, side, device=device)
        with torch.autocast(device.type, kind, enabled=kind is not None):
            scores, logits = Scoring(copy)(frames)
        overlap, begin, end = map(torch.rand_like, (scores.overlap, scores.start, scores.end))
        loss = localization_loss(scores, overlap, begin, end).total
        if logits is not None:
            loss = loss + logits.float().logsumexp(2).mean()
        loss.backward()
        optimizer.step()
        del average  # held until here

    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        return peak_memory(step, device)


def step_need(
    start: Checkpoint, recipe: Recipe, fidelity: Fidelity, videos: int, device: torch.device
) -> Need:
    """From steps of one and, if there are more, of two videos: every one more adds as much.

    So what would not fit is found out without trying it.
    """
    model = start.model
    assert isinstance(model, Localizer)
    try:
        one = step_bytes(start, recipe, fidelity, 1, device)
        more = step_bytes(start, recipe, fidelity, 2, device) - one if videos > 1 else 0
        whole: float = one + (videos - 1) * more
    except torch.OutOfMemoryError:
        whole = math.inf
    return Need(
        fidelity,
        fidelity.snippets(model.arch.head.snippets),
        fidelity.side(start.preprocessing.width),
        videos,
        whole,
    )


def fitted(
    recipe: Recipe,
    start: Checkpoint,
    videos: int,
    device: torch.device,
    budget: float | None,
    say: Callable[[str], None],
) -> Recipe:
    """The recipe with the smallest reduction whose steps all fit into `budget` gigabytes.

    What each needs is said. Without a budget the recipe stays as it is, if the device can hold it.

    Args:
        videos: of a step in this process.

    Raises:
        BadInput: none fits, or the configuration has a reduction of its own.
    """
    config = recipe.config
    own = config not in SHARES and not config.startswith("cycle")
    tried = [recipe.reduction]
    limit = math.inf if budget is None else budget * GIGABYTE
    if budget is not None and not own:
        tried += [reduction for reduction in REDUCTIONS if reduction > recipe.reduction]
    for reduction in tried:
        needs = []
        for fidelity in fidelities(recipe.model_copy(update={"reduction": reduction}), start):
            needs.append(step_need(start, recipe, fidelity, videos, device))
            say(str(needs[-1]))
            if needs[-1].bytes >= limit:
                break
        else:
            return recipe.model_copy(update={"reduction": reduction})
    room = f"the memory of {device}" if budget is None else f"{budget:g} GB"
    if own:
        reduced, ways = "", "larger factors"
    else:
        reduced = f"reduced by {tried[-1]:g} "
        ways = "--memory-budget" if budget is None else "a smaller encoder"
    raise BadInput(
        f"{needs[-1].fidelity.name} does not fit into {room}: {reduced}it needs "
        f"{needs[-1].memory}; take {ways} or a smaller --batch"
    )
