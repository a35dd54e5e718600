"""Who may be timed: everyone is loaded and must answer rightly first.

Of our own a wrong answer ends the benchmark. A peer that cannot be loaded or errs is left out, and
a note says why; it is tried in a process of its own first, for engines crash on graphs of others.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from movinet_edge.benchmarks import child
from movinet_edge.benchmarks.bundled import BundleContestant, check_parity
from movinet_edge.benchmarks.contestant import Contestant, Entry, fit_frames
from movinet_edge.benchmarks.line_up import start
from movinet_edge.benchmarks.timing import Say
from movinet_edge.bundle import Bundle
from movinet_edge.errors import BadInput, CheckFailed
from movinet_edge.runtime.quiet import quiet

# Two ways to run one file round alike, up to the order of additions.
AGREEMENT = 1e-2
AGREEMENT_STEPS = 8


class LeftOut(Exception):
    """Why a peer does not take part."""


class Entrants:
    """Those who were let in, and `notes` of who was not; frames are the golden stream's."""

    def __init__(self, opened: dict[Path, Bundle], frames: np.ndarray, say: Say):
        self.contestants: list[Contestant] = []
        self.notes: list[str] = []
        self._opened, self._frames, self._say = opened, frames, say
        # Of other people's files what the first way to run them answers.
        self._answers: dict[tuple[Path, int], np.ndarray] = {}
        self._tried: dict[tuple[str, str], str | None] = {}

    def admit(self, entries: Sequence[Entry]) -> None:
        """Load and check everyone.

        Raises:
            BadInput: one of ours, or another's file in the way its users know, cannot be loaded.
            CheckFailed: one of ours computes wrong numbers.
        """
        for entry in entries:
            self._say(f"checking {entry.label}")
            try:
                self.contestants.append(self._checked(entry))
            except LeftOut as error:
                self.notes.append(f"{entry.label} was left out: {error}")

    def close(self) -> None:
        for contestant in self.contestants:
            contestant.close()

    def _checked(self, entry: Entry) -> Contestant:
        if entry.same_weights and (reason := self._reason_against(entry)) is not None:
            raise LeftOut(reason)
        first_way = self._answers.get((entry.path, entry.threads))
        optional = entry.same_weights or first_way is not None
        try:
            with quiet():
                contestant = start(entry, self._opened.get(entry.path))
        except BadInput as error:
            # A peer's file is fit if the first way runs it; that is the way its users know.
            if not optional:
                raise
            raise LeftOut(str(error)) from error
        try:
            self._check(contestant, first_way)
        except BaseException:
            contestant.close()
            raise
        return contestant

    def _check(self, contestant: Contestant, first_way: np.ndarray | None) -> None:
        entry = contestant.entry
        if isinstance(contestant, BundleContestant):
            try:
                check_parity(contestant)
            except CheckFailed as error:
                if not entry.same_weights:
                    raise
                raise LeftOut(str(error)) from error
            return
        found = _answers(contestant, self._frames)
        if first_way is not None and not _agree(found, first_way):
            raise LeftOut("its answers differ from the first way's")
        self._answers.setdefault((entry.path, entry.threads), found)

    def _reason_against(self, entry: Entry) -> str | None:
        """Why another engine cannot run the bundle, from a trial in a process of its own."""
        key = entry.way, entry.precision
        if key not in self._tried:
            self._tried[key] = child.try_out(entry.model_dump_json())
        return self._tried[key]


def _answers(contestant: Contestant, frames: np.ndarray) -> np.ndarray:
    """The answers of a peer to the first frames, float [steps, n]."""
    contestant.reset()
    fitted = fit_frames(frames[:AGREEMENT_STEPS], contestant.frame_size)
    answers = [contestant.step([frame]) for frame in fitted]
    return np.stack([a for a in answers if a is not None]).astype(np.float64)


def _agree(ours: np.ndarray, theirs: np.ndarray) -> bool:
    error = np.abs(ours - theirs).max()
    return bool(error <= AGREEMENT * max(float(theirs.std()), 1e-6))  # NaN does not agree
