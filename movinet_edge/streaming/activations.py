"""Activations and gates by name, with the spelling each set of published weights needs."""

from __future__ import annotations

from collections.abc import Callable

import torch.nn.functional as F
from torch import Tensor

ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "swish": F.silu,
    "hard_swish": F.hardswish,  # x * relu6(x + 3) / 6
    # Where there is no operator; converters find it again in other orders.
    "hard_swish_plain": lambda x: (x * (1 / 6)) * F.relu6(x + 3),
    "relu6": F.relu6,
    "relu": F.relu,
}

# Squeeze-excite gates. The Model Garden's hard sigmoid multiplies by 0.16667, not by 1/6; Keras'
# own (used by MoViNet-pytorch and, it seems, by some published weights) has slope 0.2.
GATES: dict[str, Callable[[Tensor], Tensor]] = {
    "sigmoid": F.sigmoid,
    "hard_sigmoid": lambda x: F.relu6(x + 3) * 0.16667,
    "hard_sigmoid_6": lambda x: F.relu6(x + 3) * (1 / 6),  # MobileNetV3's own
    "hard_sigmoid_keras": lambda x: (0.2 * x + 0.5).clamp(0, 1),
}
