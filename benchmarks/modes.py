"""How steps follow each other: in rounds, at the camera's rate, for minutes, or once a process."""

from __future__ import annotations

import math
import random
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal

from movinet_edge.benchmarks import child
from movinet_edge.benchmarks.endurance import Pace, Watched, go_on
from movinet_edge.benchmarks.job import COLD_PROCESSES
from movinet_edge.benchmarks.timing import Say, Timed, interleaved
from movinet_edge.errors import BadInput

Mode = Literal["back-to-back", "paced", "sustained", "cold"]

STEPS, TURNS = 200, 10  # back to back: in so many turns of equal length
ROUNDS = 5  # at least, for the spread of ratios to peers
PACED_SECONDS, PACED_STEPS = 5, 20
MINUTES = 10.0
SEED = 0


@dataclass
class Ran:
    """How a schedule ran: rounds of `per_round` steps (None: no rounds), and what was watched.

    `watched` is by label, of those who ran alone.
    """

    per_round: int | None = None
    watched: dict[str, Watched] = field(default_factory=dict)


@dataclass(frozen=True)
class Schedule:
    """A mode in numbers.

    `steps` None: `STEPS`, `PACED_SECONDS` worth if paced, `COLD_PROCESSES` if cold. `minutes`: how
    long paced and sustained runs go on. `rounds` is how many there are at least. `frame_rate` is
    the camera's, `period` the number of frames after which plans repeat.
    """

    mode: Mode = "back-to-back"
    steps: int | None = None
    minutes: float | None = None
    rounds: int = 1
    frame_rate: float = 1.0
    period: int = 1

    def check(self) -> None:
        """Raise `BadInput` where the numbers do not go together."""
        if self.steps is not None and self.steps < 1:
            raise BadInput("steps are at least 1")
        if self.minutes is not None and self.mode not in ("paced", "sustained"):
            raise BadInput(f"--minutes is for sustained and paced runs, not for --mode {self.mode}")
        if self.steps is not None and self.mode == "sustained":
            raise BadInput("a sustained run goes on for --minutes; leave out --steps")
        if self.steps is not None and self.minutes is not None:
            raise BadInput("--steps and --minutes both say how long; give one of them")
        if self.steps is not None and self.steps < self.rounds:
            raise BadInput(
                f"ratios to peers need at least {self.rounds} rounds; give --steps {self.rounds}"
            )

    @property
    def paced_rate(self) -> float | None:
        """Frames per second to wait for, if any."""
        return self.frame_rate if self.mode == "paced" else None

    @property
    def going_on(self) -> float | None:
        """For how many minutes; None where steps are counted."""
        return self.minutes or (MINUTES if self.mode == "sustained" else None)

    def paced_steps(self, frames_per_step: int = 1) -> int:
        """How many steps at the camera's rate: whole periods of the plan."""
        worth = math.ceil(PACED_SECONDS * self.frame_rate / frames_per_step)
        return math.ceil((self.steps or max(PACED_STEPS, worth)) / self.period) * self.period

    def run(self, line_up: Sequence[Timed], say: Say) -> Ran:
        """Time everyone."""
        if self.mode == "cold":
            cold(line_up, self.steps or COLD_PROCESSES, SEED, say)
            return Ran(per_round=1)
        if self.mode == "back-to-back":
            steps, per_round = self.turns()
            interleaved(line_up, steps, SEED, say, per_round)
            return Ran(per_round)
        return Ran(watched={t.contestant.entry.label: self._alone(t, say) for t in line_up})

    def turns(self) -> tuple[int, int]:
        """How many steps, and how many of them in a round: whole periods of the plan.

        So each graph has its share in every round.
        """
        steps = self.steps or STEPS
        per_round = math.ceil(steps / TURNS / self.period) * self.period
        return max(math.ceil(steps / per_round), self.rounds) * per_round, per_round

    def _alone(self, timed: Timed, say: Say) -> Watched:
        label, per_step = timed.contestant.entry.label, timed.contestant.frames_per_step
        steps = self.paced_steps(per_step)
        if self.going_on is not None:
            say(f"{label}: {self.going_on:g} minutes")
        else:
            say(f"{label}: {steps} steps in {steps * per_step / self.frame_rate:.0f} s")
        return go_on(timed, Pace(steps, self.paced_rate, self.going_on))


def cold(line_up: Sequence[Timed], starts: int, seed: int, say: Say) -> None:
    """Load and step once in a process of its own, everyone in each round, in shuffled order."""
    order = list(line_up)
    shuffle = random.Random(seed).shuffle
    for number in range(starts):
        say(f"start {number} of {starts}")
        shuffle(order)
        for timed in order:
            found = child.measure_cold(timed.contestant.entry.model_dump_json())
            timed.load.append(found["load_ms"])
            timed.step.append(found["first_step_ms"])
            timed.engine.append(found["engine_ms"])
            timed.cpu.append(found["cpu_ms"])
