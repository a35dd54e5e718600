"""Several processes under ``torchrun``: who we are, and batch norm over all of them."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.nn.functional import all_reduce

from movinet_edge.errors import BadInput


@dataclass(frozen=True, slots=True)
class World:
    """This process among the others; one process alone is rank 0 of 1."""

    rank: int
    size: int
    device: torch.device

    @property
    def leads(self) -> bool:
        """Whether this process prints and writes."""
        return self.rank == 0

    def mean(self, value: Tensor) -> Tensor:
        """The mean of a detached value over all processes."""
        if self.size > 1:
            value = value.clone()
            dist.all_reduce(value)
            value /= self.size
        return value

    def total(self, number: int) -> int:
        """The sum of all processes' numbers."""
        return self._reduced(number, dist.ReduceOp.SUM)

    def smallest(self, number: int) -> int:
        """The smallest of all processes' numbers."""
        return self._reduced(number, dist.ReduceOp.MIN)

    def _reduced(self, number: int, how: dist.ReduceOp.RedOpType) -> int:
        if self.size == 1:
            return number
        value = torch.tensor(number, device=self.device)
        dist.all_reduce(value, how)
        return int(value)


@contextmanager
def world(device: str | None = None) -> Iterator[World]:
    """Join the processes that ``torchrun`` started, if it did.

    Args:
        device: ``cpu``, ``cuda`` or (None) CUDA where there is one.

    Raises:
        BadInput: there is no such device.
    """
    kind = device or ("cuda" if torch.cuda.is_available() else "cpu")
    if kind == "cuda" and not torch.cuda.is_available():
        raise BadInput("no CUDA device is usable here; use --device cpu")
    if kind not in ("cpu", "cuda"):
        raise BadInput(f"unknown device {kind!r}; choose cpu or cuda")
    size = int(os.environ.get("WORLD_SIZE", "1"))
    local = int(os.environ.get("LOCAL_RANK", "0"))
    chosen = torch.device(kind, local) if kind == "cuda" else torch.device(kind)
    if kind == "cuda":
        if local >= torch.cuda.device_count():
            raise BadInput(f"there are {torch.cuda.device_count()} GPUs; start as many processes")
        torch.cuda.set_device(chosen)
    # Whoever called may have joined already; then leaving is theirs, too.
    joins = size > 1 and not dist.is_initialized()
    if joins:
        dist.init_process_group("nccl" if kind == "cuda" else "gloo")
    yield World(dist.get_rank() if size > 1 else 0, size, chosen)
    # Not after an error: the others are not there to say goodbye to.
    if joins:
        dist.destroy_process_group()


class SyncNorm(nn.BatchNorm2d):
    """Batch norm whose statistics are those of all processes' frames together.

    ``nn.SyncBatchNorm`` exists for CUDA only; this one serves the CPU.
    """

    def forward(self, x: Tensor) -> Tensor:
        if not self.training:
            return super().forward(x)
        dtype, x = x.dtype, x.float()  # sums of squares need all the bits
        count = x.new_tensor([x.numel() / x.shape[1]])
        sums = all_reduce(torch.cat([x.sum((0, 2, 3)), x.square().sum((0, 2, 3)), count]))
        mean, square = sums[:-1].view(2, -1) / sums[-1]
        variance = (square - mean.square()).clamp_min(0)
        with torch.no_grad():
            assert self.running_mean is not None
            assert self.running_var is not None
            assert self.momentum is not None
            assert self.num_batches_tracked is not None
            unbiased = variance * sums[-1] / (sums[-1] - 1)
            self.running_mean.lerp_(mean, self.momentum)
            self.running_var.lerp_(unbiased, self.momentum)
            self.num_batches_tracked += 1
        gain = self.weight * (variance + self.eps).rsqrt()
        return (x * gain[:, None, None] + (self.bias - mean * gain)[:, None, None]).to(dtype)


def synchronise_norms(model: nn.Module, device: torch.device) -> nn.Module:
    """The same model with batch norms that see the batch of all processes."""
    if device.type == "cuda":
        return nn.SyncBatchNorm.convert_sync_batchnorm(model)
    for path, norm in list(model.named_modules()):
        if isinstance(norm, nn.BatchNorm2d):
            synced = SyncNorm(norm.num_features, norm.eps, norm.momentum)
            synced.weight, synced.bias = norm.weight, norm.bias
            for name, buffer in norm.named_buffers():
                synced.register_buffer(name, buffer)
            model.set_submodule(path, synced)
    return model
