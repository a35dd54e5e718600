"""What is optimised and how fast: parameter groups, schedule, averaged weights."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn
from torch.optim.lr_scheduler import LambdaLR
from torch.optim.swa_utils import AveragedModel

from movinet_edge.errors import BadInput
from movinet_edge.models import backbone, movinet
from movinet_edge.models.arnet import LstmCell
from movinet_edge.train.recipe import Recipe

OPTIMIZERS: dict[str, Callable[..., torch.optim.Optimizer]] = {
    "adamw": torch.optim.AdamW,
    "adam": torch.optim.Adam,  # its weight decay is part of the gradient
    "plain": torch.optim.SGD,
    "sgd": lambda groups, lr: torch.optim.SGD(groups, lr, momentum=0.9, nesterov=True),
    "momentum": lambda groups, lr: torch.optim.SGD(groups, lr, momentum=0.9),
    # The published recipe's values; decay 0.9, momentum 0.9, epsilon 1.
    "rmsprop": lambda groups, lr: torch.optim.RMSprop(groups, lr, alpha=0.9, momentum=0.9, eps=1.0),
}

# Dense layers inside these learn as convolutions do: as published, where they are convolutions, or
# part of one module.
PARTS = (LstmCell, backbone.SqueezeExcite, movinet.SqueezeExcite)


def stages(model: nn.Module) -> list[str]:
    """The model's top-level parts in order, from the input to the answer."""
    return [name for name, _ in model.named_children()]


def freeze(model: nn.Module, recipe: Recipe) -> None:
    """Take the recipe's frozen parts out of training.

    Raises:
        BadInput: a name that no part of the model has, or nothing left to train.
    """
    parts = stages(model)
    wanted = set(recipe.freeze)
    if "backbone" in wanted:
        wanted = (wanted - {"backbone"}) | set(parts[:-1])
    modules = dict(model.named_modules())
    for name in sorted(wanted):
        if name not in modules:
            raise BadInput(f"cannot freeze {name!r}; the model has backbone, {', '.join(parts)}")
        modules[name].requires_grad_(False)
    if not any(p.requires_grad for p in model.parameters()):
        raise BadInput("everything is frozen; leave at least the head to train")


def train_mode(model: nn.Module, recipe: Recipe) -> None:
    """Training mode, except for batch norm whose statistics are to stay as they are."""
    model.train()
    for module in model.modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm):
            module.momentum = recipe.norm_momentum
            # Rounding noise is not to move the statistics, which the export folds into weights.
            frozen = recipe.freeze_norm or recipe.qat
            if frozen or not module.weight.requires_grad:
                module.eval()


def parameter_groups(model: nn.Module, recipe: Recipe) -> list[dict[str, object]]:
    """Groups of one learning rate and one weight decay each.

    Weights of convolutions and dense layers decay; biases, batch norms and scalars do not. With
    a layer decay d, part k counted from the head learns at ``lr * d**k``; biases and dense layers
    at that times `bias_lr`, `dense_lr` or both (AR-Net and TSN: 2 and 5).
    """
    parts = stages(model)
    depth = {name: len(parts) - 1 - index for index, name in enumerate(parts)}
    times = _factors(model, recipe)
    groups: dict[tuple[int, bool, float], list[Tensor]] = {}
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            key = depth[name.partition(".")[0]], parameter.dim() > 1, times.get(name, 1.0)
            groups.setdefault(key, []).append(parameter)
    return [
        {
            "params": parameters,
            "lr": recipe.lr * recipe.layer_decay**below * factor,
            "weight_decay": recipe.weight_decay if decays else 0.0,
        }
        for (below, decays, factor), parameters in sorted(groups.items(), key=lambda item: item[0])
    ]


def _factors(model: nn.Module, recipe: Recipe) -> dict[str, float]:
    """By which the learning rates of dense layers and biases are multiplied, by parameter."""
    inner = {child for m in model.modules() if isinstance(m, PARTS) for child in m.children()}
    times: dict[str, float] = {}
    for place, module in model.named_modules():
        dense = isinstance(module, nn.Linear) and module not in inner
        norm = isinstance(module, nn.modules.batchnorm._BatchNorm)
        for name, _ in module.named_parameters(recurse=False):
            bias = recipe.bias_lr if name == "bias" and not norm else 1.0
            times[f"{place}.{name}"] = bias * (recipe.dense_lr if dense else 1.0)
    return times


def make_optimizer(model: nn.Module, recipe: Recipe) -> torch.optim.Optimizer:
    return OPTIMIZERS[recipe.optimizer](parameter_groups(model, recipe), lr=recipe.lr)


def make_schedule(optimizer: torch.optim.Optimizer, recipe: Recipe, steps: int) -> LambdaLR:
    """Linear warm-up, then a cosine down to zero after `steps` steps, or the recipe's steps."""
    warm, epoch = round(recipe.warmup * steps), max(1, steps // recipe.epochs)

    def share(step: int) -> float:
        if step < warm:
            return (step + 1) / (warm + 1)
        if recipe.schedule == "step":
            return recipe.lr_decay ** sum(step >= at * epoch for at in recipe.lr_steps)
        return 0.5 * (1 + math.cos(math.pi * (step - warm) / max(1, steps - warm)))

    return LambdaLR(optimizer, share)


def averaged(model: nn.Module, decay: float) -> AveragedModel:
    """An exponential moving average of weights and batch norm statistics.

    The decay grows with the number of updates, ``(1 + n) / (10 + n)``, up to `decay`: the first
    random weights are soon forgotten.
    """

    @torch.no_grad()
    def update(average: Sequence[Tensor], current: Sequence[Tensor], count: Tensor | int) -> None:
        n = float(count)
        keep = min(decay, (1 + n) / (10 + n))
        for old, new in zip(average, current, strict=True):
            if old.is_floating_point():
                old.lerp_(new.to(old.dtype), 1 - keep)
            else:
                old.copy_(new)

    return AveragedModel(model, multi_avg_fn=update, use_buffers=True)
