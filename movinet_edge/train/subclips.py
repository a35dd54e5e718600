"""Training on stream buffers (arXiv 2103.11511, section 3.2).

A clip of T frames goes through the model as n sub-clips of T / n frames. The stream buffers carry
what came before from sub-clip to sub-clip; each sub-clip has its own loss, at its last frame, and
the gradients of all of them add up. With gradients stopped in the buffers a sub-clip's graph is
freed before the next one begins: memory depends on the sub-clip's length and not on the clip's.
With gradients kept they equal those of one pass over the whole clip with the same n losses.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from movinet_edge.streaming.state import State, detach

Context = Callable[[], AbstractContextManager[object]]


def classification_loss(logits: Tensor, targets: Tensor, label_smoothing: float = 0.0) -> Tensor:
    """Cross entropy for classes, int64 [B]; for targets [B, classes] that of each class by itself.

    The latter as a mean over classes; smoothing pulls targets towards 1/2.
    """
    if targets.dim() == 1:
        return F.cross_entropy(logits, targets, label_smoothing=label_smoothing)
    smooth = targets * (1 - label_smoothing) + label_smoothing / 2
    return F.binary_cross_entropy_with_logits(logits, smooth)


def clip_backward(
    model: nn.Module,
    clip: Tensor,
    targets: Tensor,
    subclips: int = 1,
    keep_gradients: bool = False,
    label_smoothing: float = 0.0,
    autocast: Context = nullcontext,
    scale: Callable[[Tensor], Tensor] = lambda loss: loss,
    no_sync: Context = nullcontext,
    penalty: Callable[[State], Tensor] | None = None,
    weight: float = 1.0,
) -> tuple[Tensor, Tensor]:
    """Forward and backward of one batch; gradients are added to the parameters'.

    Args:
        clip: frames [B, T, 3, H, W] in [0, 1], T divisible by `subclips`.
        targets: classes, int64 [B], or 1 for each class that is there, float32 [B, classes].
        autocast: makes the context of mixed precision.
        scale: a loss scaler's function.
        no_sync: makes the context in which distributed gradients are not exchanged yet; the
            exchange happens at the last backward pass.
        penalty: a scalar to be added to the loss of the sub-clip that just went through the model
            and left a state behind.
        weight: of the classification loss beside it.

    Returns:
        the mean loss over the sub-clips (a detached scalar) and the logits after the last frame,
        float32 [B, classes].

    Raises:
        ValueError: the clip cannot be cut evenly.
    """
    if clip.shape[1] % subclips:
        raise ValueError(f"{clip.shape[1]} frames cannot be cut into {subclips} sub-clips")
    parts = clip.split(clip.shape[1] // subclips, 1)
    state: State | None = None
    total = clip.new_zeros(())
    kept: list[Tensor] = []
    for number, part in enumerate(parts, start=1):
        last = number == subclips
        with nullcontext() if last else no_sync():
            with autocast():
                logits, state = model(part, state)
            answer = logits[:, -1].float()
            loss = weight * classification_loss(answer, targets, label_smoothing) / subclips
            if penalty is not None:
                loss = loss + penalty(state) / subclips
            total = total + loss.detach()
            kept.append(loss)
            if not keep_gradients or last:
                scale(torch.stack(kept).sum()).backward()
                kept.clear()
            if not keep_gradients:
                state = detach(state)
    return total, answer.detach()
