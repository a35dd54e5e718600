"""The reference: PyTorch clip forwards, one per graph on its own frames, combined by the plan.

Nothing here goes through the runtime, which is what the reference is to judge.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Iterable, Mapping, Sequence
from itertools import islice
from typing import TYPE_CHECKING

import numpy as np

from movinet_edge.bundle import Bundle, Manifest, Plan, PlanStep

if TYPE_CHECKING:
    from torch import nn

    from movinet_edge.models.arch import VideoModel
    from movinet_edge.streaming.state import State

# Frames per forward pass: bounds its memory for streams of any length.
SUB_CLIP = 32
EXTRA = "pip install 'movinet-edge[export]'"

Models = Mapping[str, "VideoModel"]  # by the name of the graph


def clip_frames(manifest: Manifest) -> int:
    """How many frames enter a run: 1, but for bundles of whole clips."""
    return max(graph.frames for graph in manifest.graphs)


def reference_models(bundle: Bundle, notes: list[str]) -> Models | None:
    """The PyTorch models in the bundle; None (and a note) where there are none to run."""
    manifest = bundle.manifest
    files = {g.name: f for g in manifest.graphs for f in g.files if f.format == "torch"}
    planned = {step.graph for step in manifest.plan_for("torch").steps}
    if set(files) != planned:
        notes.append("the bundle holds no checkpoint: compared with its stored answers only")
        return None
    if not _is_combined_here(manifest):
        notes.append("no reference for plans of this kind: compared with the stored answers only")
        return None
    if importlib.util.find_spec("torch") is None:
        notes.append(f"PyTorch is not installed ({EXTRA}): compared with the stored answers only")
        return None
    from movinet_edge.checkpoints.native import load_checkpoint

    return {name: load_checkpoint(bundle.file(file)).model for name, file in files.items()}


def _is_combined_here(manifest: Manifest) -> bool:
    """Whether the plan is one graph, or the mean of streams that each run at their own frames."""
    planned = [step.graph for step in manifest.plan_for("torch").steps]
    if len(planned) == 1:
        return True
    once = sorted(planned) == sorted(graph.name for graph in manifest.graphs)
    return once and manifest.plan.combine == "mean" and clip_frames(manifest) == 1


def reference_logits(
    models: Models, plan: Plan, clip: int, frames: Iterable[np.ndarray], renewal: int = 1
) -> np.ndarray:
    """What a stream must answer: uint8 frames [H, W, 3] -> logits [answers, classes].

    Where the answer is new at every `renewal`-th frame only, it is repeated in between.

    Long streams run in sub-clips that hand over their state, which is the same computation. A
    clip form (`clip` frames at once, more than 1) begins anew with every clip.
    """
    members = []
    for step in plan.steps:
        model = models[step.graph]
        streams = clip == 1
        members.append(_Member(model.as_stream() if streams else model, step, streams))
    rest, count = iter(frames), 0
    while part := list(islice(rest, clip if clip > 1 else SUB_CLIP)):
        for member in members:
            member.take(part, count)
        count += len(part)
    if clip > 1:
        (member,) = members
        return np.stack(member.answers)
    start = max(plan.delay, min(step.offset for step in plan.steps))
    return np.stack([_answer(members, n - n % renewal) for n in range(start, count)])


def completed_logits(models: Models, frames: np.ndarray) -> np.ndarray | None:
    """What a stream that looks ahead answers when it is completed, [classes].

    From one clip of all `frames` (uint8 [T, H, W, 3]); None where models do not tell.
    """
    import torch

    (model,) = models.values()
    completed = getattr(model.as_stream(), "completed", None)
    if completed is None:
        return None
    x = torch.from_numpy(frames).permute(0, 3, 1, 2)[None].float() * (1 / 255)
    with torch.inference_mode():
        logits = completed(x)
    return None if logits is None else np.asarray(logits[0].numpy())


class _Member:
    """The clip forward of one graph's model on the frames at which the plan runs it.

    `answers` are its logits [classes], of its own frames only.
    """

    def __init__(self, model: nn.Module, step: PlanStep, streams: bool):
        self.model, self.every, self.offset, self.streams = model, step.every, step.offset, streams
        self.state: State | None = None
        self.answers: list[np.ndarray] = []

    def take(self, part: Sequence[np.ndarray], first: int) -> None:
        """Run on its own frames among `part`, which begins at frame number `first`."""
        import torch

        own = [frame for n, frame in enumerate(part, first) if n % self.every == self.offset]
        if not own:
            return
        x = torch.from_numpy(np.stack(own)).permute(0, 3, 1, 2)[None].float() * (1 / 255)
        with torch.inference_mode():
            logits, after = self.model(x, self.state)
        self.state = after if self.streams else None
        self.answers += list(logits[0].numpy())


def _answer(members: Sequence[_Member], n: int) -> np.ndarray:
    """After frame `n`: the mean of the newest answers of all that have answered."""
    newest = [m.answers[(n - m.offset) // m.every] for m in members if n >= m.offset]
    return np.asarray(np.mean(newest, axis=0))
