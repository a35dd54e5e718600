"""How much memory tensors take, as the allocators themselves report it."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import nn
from torch.profiler import ProfilerActivity, profile

from movinet_edge.runtime.quiet import quiet


def weights_bytes(model: nn.Module) -> int:
    """Bytes of a model's parameters and buffers."""
    tensors = (*model.parameters(), *model.buffers())
    return sum(t.numel() * t.element_size() for t in tensors)


def peak_memory(fn: Callable[[], object], device: torch.device | str = "cpu") -> int:
    """Bytes that tensors hold at the peak while `fn` runs, beyond what was there before.

    Counts everything that comes from the allocator of `device`: activations, what autograd saves
    for the backward pass, gradients, temporaries inside operators. What was there before counts
    neither when it is kept nor when `fn` frees it. Peaks on a CUDA device start afresh: its own
    statistics are reset.
    """
    device = torch.device(device)
    if device.type == "cuda":
        torch.cuda.synchronize(device)
        torch.cuda.reset_peak_memory_stats(device)
        before = torch.cuda.memory_allocated(device)
        fn()
        torch.cuda.synchronize(device)
        return torch.cuda.max_memory_allocated(device) - before
    # The CPU allocator has no counters, but the profiler logs each of its calls.
    with quiet(), profile(activities=[ProfilerActivity.CPU], profile_memory=True) as log:
        fn()
    assert log.profiler is not None
    assert log.profiler.kineto_results is not None
    calls = [e for e in log.profiler.kineto_results.events() if e.name() == "[memory]"]
    held = peak = 0
    for call in sorted(calls, key=lambda e: e.start_ns()):
        held += call.nbytes()  # negative where memory is freed
        peak = max(peak, held)
    return peak
