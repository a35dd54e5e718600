"""``export --target-drop``: the cheapest static int8 that loses few enough points on real labels.

Policies are tried from the cheapest to the dearest (`policy.ladder`), each as the files that would
be shipped, on the engines that would run them; a simulation only puts them in order.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from torch import Tensor

from movinet_edge.bundle import Bundle, FormatName, Precision
from movinet_edge.checkpoints.native import Checkpoint
from movinet_edge.errors import BadInput
from movinet_edge.export.calibration import calibration_streams
from movinet_edge.export.equalising import some
from movinet_edge.export.exporter import export
from movinet_edge.export.graph_files import ExportOptions
from movinet_edge.export.model_files import Progress
from movinet_edge.export.policy import Policy, ladder
from movinet_edge.export.sensitivity import Analysis
from movinet_edge.runtime.engines import usable_backends

# The top-1, a share, of a bundle on a backend in a precision.
Judge = Callable[[Bundle, str, Precision], float]
INT8: Precision = "int8"


@dataclass(frozen=True)
class Found:
    """A policy, the scales of its sites, and how many points of top-1 it loses at most."""

    policy: Policy
    scales: dict[str, Tensor]
    drop: float

    def applied(self, options: ExportOptions) -> ExportOptions:
        """The same options, with this policy."""
        kept = (*options.keep_float, *self.policy.keep_float)
        return replace(options, equalise=self.scales, keep_float=kept)


def cheapest(
    checkpoint: Checkpoint,
    options: ExportOptions,
    target: float,
    judge: Judge,
    progress: Progress = lambda _: None,
) -> Found:
    """The cheapest policy that loses at most `target` points of top-1 on every format's engine.

    Args:
        options: of the export, with int8 among its precisions.
        judge: measures accuracy; asked for a float file of each format once.

    Raises:
        BadInput: none does, int8 is not asked for, or as `export`.
    """
    if INT8 not in options.precisions or options.calibrate is None:
        raise BadInput("--target-drop is for --precision int8 with --calibrate; add them")
    delay = checkpoint.model.delay
    streams = calibration_streams(
        options.calibrate, checkpoint.preprocessing, options.calibration_frames, delay
    )
    progress("simulating int8")
    search = _Search(
        checkpoint, options, judge, progress, Analysis(checkpoint, some(streams), progress)
    )
    found = search.trial(Policy())
    if found.drop <= target:
        return found
    policies = ladder(search.analysis)[1:]
    best = search.trial(policies.pop()) if policies else found
    if best.drop > target:
        raise BadInput(
            f"int8 loses {best.drop:.1f} points even with {best.policy}; fine-tune it with "
            "movinet-edge train --qat, or take --precision dynamic"
        )
    while policies:
        middle = len(policies) // 2
        tried = search.trial(policies[middle])
        if tried.drop <= target:
            best, policies = tried, policies[:middle]
        else:
            policies = policies[middle + 1 :]
    return best


class _Search:
    """What trials share."""

    def __init__(
        self,
        checkpoint: Checkpoint,
        options: ExportOptions,
        judge: Judge,
        progress: Progress,
        analysis: Analysis,
    ):
        self.checkpoint, self.options, self.analysis = checkpoint, options, analysis
        self.judge, self.progress = judge, progress
        self.floats: dict[str, float] = {}

    def trial(self, policy: Policy) -> Found:
        """Write the files of a policy and measure what they lose."""
        found = Found(policy, self.analysis.scales(policy.equalise), 0.0)
        options = found.applied(self.options)
        self.progress(f"trying int8 with {policy}")
        with tempfile.TemporaryDirectory() as work:
            backends = _backends(options.formats)
            precisions: tuple[Precision, ...] = (INT8,) if self.floats else ("fp32", INT8)
            path = Path(work) / "trial"
            export(self.checkpoint, path, replace(options, precisions=precisions, verify=False))
            bundle = Bundle(path)
            for name in backends:
                if name not in self.floats:
                    self.floats[name] = self.judge(bundle, name, "fp32")
            drops = [self.floats[name] - self.judge(bundle, name, INT8) for name in backends]
        drop = 100 * max(drops)
        self.progress(f"int8 with {policy} loses {drop:.1f} points")
        return replace(found, drop=drop)


def _backends(formats: Sequence[FormatName]) -> list[str]:
    """An engine per format."""
    first = {backend.format: backend.name for backend in reversed(usable_backends(set(formats)))}
    return list(first.values())
