"""Which hard-swishes of a checkpoint need a scale per channel in int8, by simulation."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import islice

import numpy as np
from torch import Tensor

from movinet_edge.checkpoints.native import Checkpoint
from movinet_edge.export.calibration import Stream
from movinet_edge.export.model_files import Progress

# Enough to tell sites apart; every block is tried more than once on them, which takes a minute for
# A0 at its own size.
FRAMES = 32
# Of the logits, in dB: what is equalised costs time, so nothing is where plain int8 gives this.
TARGET_DB = 25.0


def equalised_scales(
    checkpoint: Checkpoint, streams: Sequence[Stream], progress: Progress
) -> dict[str, Tensor]:
    """Scales [channels] of the sites whose channel ranges demand it, as `fold` takes them.

    None where plain int8 is good enough, or where equalising does not gain half a dB.
    """
    # Imported here: it is for int8 only.
    from movinet_edge.export.policy import choose
    from movinet_edge.export.sensitivity import Analysis

    progress("simulating int8")
    analysis = Analysis(checkpoint, some(streams), progress)
    return analysis.scales(choose(analysis, TARGET_DB).policy.equalise)


def some(streams: Sequence[Stream]) -> list[list[np.ndarray]]:
    """The beginnings of some streams, `FRAMES` frames in all."""
    share = max(8, FRAMES // len(streams))
    some = [list(islice(stream, share)) for stream in streams[: -(-FRAMES // share)]]
    return [stream for stream in some if stream]
