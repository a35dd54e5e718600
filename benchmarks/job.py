"""What a device is to do: files to send, a command to run, and what becomes of its result."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from movinet_edge.benchmarks.device import Device, Done
from movinet_edge.benchmarks.record import Measurement
from movinet_edge.benchmarks.stats import cold_starts

COLD_PROCESSES = 10


@dataclass(frozen=True)
class Outcome:
    """A run's measurement, after its answers were found right, and the versions of what ran."""

    measurement: Measurement
    tools: dict[str, str]


class Job(ABC):
    """One way to measure a bundle on a device.

    `files` are pairs of a file here and its place in our folder there, `patience` is the seconds
    after which a run has gone wrong.
    """

    files: list[tuple[Path, str]]
    patience: float

    @abstractmethod
    def command(self, place: str) -> list[str]:
        """What to run; `place` is our folder there."""

    @abstractmethod
    def outcome(self, device: Device, place: str, done: Done) -> Outcome:
        """What a run left behind.

        Raises:
            BadInput: it was refused there; one sentence says why.
            CheckFailed: it computes wrong numbers.
            DeviceLost: the line broke.
        """


def with_cold_starts(outcomes: Sequence[Outcome]) -> Outcome:
    """The first of several runs, each in a process of its own, with the cold starts of all."""
    alone = [outcome.measurement.alone for outcome in outcomes]
    cold = cold_starts([one.load_ms for one in alone], [one.first_step_ms for one in alone])
    first = outcomes[0]
    return Outcome(first.measurement.model_copy(update={"cold": cold}), first.tools)
