"""How G-TAD's public code trains and reads the head on each data set.

Source: frostinassiky/gtad, branches `anet`, `hacs` and `master` (THUMOS14).
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Convention:
    """What differs between data sets.

    Labels: the boundary label of place i is how much of [i + `cell`] is near a boundary, in cells;
    with `clips` boundaries outside of what is seen count as if at its ends. Losses: weights of the
    boundaries', the regression's and the classification's, and `guard`, which the last one adds to
    its count of positives and twice to that of all. Reading: with `peaks` segments must begin and
    end at candidates. Soft-NMS has the variance `theta` and keeps `keep`; segments of `longest`
    cells and more are given up (None: none are). A video is stretched to the head's snippets, or
    (`windowed`) seen in windows of that many.
    """

    cell: tuple[float, float] = (-0.5, 1.5)
    clips: bool = True
    weights: tuple[float, float, float] = (1.0, 10.0, 1.0)
    guard: float = 0.0
    peaks: bool = True
    theta: float = 0.8
    keep: int = 100
    longest: float | None = None
    windowed: bool = False


ACTIVITYNET = Convention()
# Its cells are 5 frames each, at 30 frames per second, and 300 frames are given up.
THUMOS = Convention(
    cell=(0.0, 1.0),
    clips=False,
    weights=(1.0, 1.0, 10.0),
    guard=10.0,
    peaks=False,
    theta=0.46,
    keep=200,
    longest=60.0,
    windowed=True,
)
CONVENTIONS = {"activitynet": ACTIVITYNET, "hacs": ACTIVITYNET, "thumos": THUMOS}


def convention_of(label: str) -> Convention:
    """Of the data set that a head is called after, or ActivityNet's."""
    return CONVENTIONS.get(label, ACTIVITYNET)
