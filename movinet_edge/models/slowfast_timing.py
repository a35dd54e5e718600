"""When SlowFast's features are ready in a stream: the delays of a network that looks ahead.

A temporal convolution of kernel k gives the output for frame t when frame t + k // 2 has come. So
the Fast pathway falls behind by frames and the Slow one by whole runs (ticks, one of every `alpha`
frames); where they meet, the earlier one waits. A causal network waits nowhere.
"""

from __future__ import annotations

from dataclasses import dataclass

from movinet_edge.models.slowfast_table import STAGES, Pathway, SlowFastArch

STEM_KERNEL: dict[Pathway, int] = {"slow": 1, "fast": 5}
PLACES = ("stem", *STAGES[:-1])  # behind which there are lateral connections


def ahead(arch: SlowFastArch, kernel: int) -> int:
    """Steps that a temporal convolution falls behind."""
    return 0 if arch.causal else kernel // 2


@dataclass(frozen=True)
class Meeting:
    """A lateral connection: `age` of the newest Fast feature that enters it, in frames before the
    newest one there is; ticks that its output waits (`lateral`), and the Slow features (`slow`).
    """

    age: int
    lateral: int
    slow: int


@dataclass(frozen=True)
class Timing:
    """All meetings, and how far the pathways are behind at the end: in frames, and in ticks."""

    meetings: tuple[Meeting, ...]
    fast_frames: int
    slow_ticks: int
    every: int

    @property
    def delay(self) -> int:
        """Frames after which all of a frame's features are known."""
        return max(self.fast_frames, self.slow_ticks * self.every)


def timing(arch: SlowFastArch) -> Timing:
    """The delays of an architecture's stream, derived from its kernels."""
    fast = ahead(arch, STEM_KERNEL["fast"])
    slow = 0
    meetings = []
    for stage in range(len(STAGES)):
        if arch.fusion != "none":
            wanted = fast + arch.lateral_ahead
            ticks = -(-wanted // arch.alpha)
            tick = max(ticks, slow)
            age = 0 if arch.causal else ticks * arch.alpha - wanted
            meetings.append(Meeting(age, tick - ticks, tick - slow))
            slow = tick
        for block in range(arch.blocks[stage]):
            fast += ahead(arch, arch.temporal_kernel("fast", stage, block))
            slow += ahead(arch, arch.temporal_kernel("slow", stage, block))
    both = arch.pathways
    return Timing(
        tuple(meetings), fast if "fast" in both else 0, slow if "slow" in both else 0, arch.every
    )
