"""LoFi (NeurIPS 2021): mini-batches with fewer snippets, smaller frames or both.

Encoder and localization head are trained together on ordinary hardware because no step sees a
video in full: L / r_t snippets, spread over all of it, of frames whose sides are 1 / r_s.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from movinet_edge.errors import BadInput
from movinet_edge.models.gtad_table import NEIGHBOURS

# How a reduction is shared between time and the frames' area: the exponents of either.
SHARES = {"S": (0.0, 1.0), "T": (1.0, 0.0), "ST": (0.5, 0.5)}
PUBLISHED = 4.0
# What a memory budget may lead to.
REDUCTIONS = (4.0, 8.0, 16.0, 32.0, 64.0)
# Which cycles there are, and after how many batches the next one comes (None: after an epoch).
CYCLES: dict[str, int | None] = {"cycle-long": None, "cycle-short": 16}
OWN = re.compile(r"(\d+(?:\.\d+)?)x(\d+(?:\.\d+)?)")  # 2x1.5


@dataclass(frozen=True)
class Fidelity:
    """Snippets become fewer by the factor `r_t`, the sides of frames shorter by `r_s`."""

    name: str
    r_t: float
    r_s: float

    def snippets(self, full: int) -> int:
        return max(round(full / self.r_t), NEIGHBOURS)

    def side(self, full: int) -> int:
        return max(round(full / self.r_s), 1)


def fidelity(name: str, reduction: float = PUBLISHED) -> Fidelity:
    """One of S, T and ST with a reduction of the input by so much, or ``R_TxR_S``.

    Raises:
        BadInput: no such, or nothing would be reduced.
    """
    own = OWN.fullmatch(name)
    if own is None and name not in SHARES:
        known = ", ".join((*SHARES, *CYCLES))
        raise BadInput(f"there is no configuration {name!r}; choose {known}, or R_TxR_S as in 2x2")
    if own is not None:
        r_t, r_s = float(own[1]), float(own[2])
    else:
        time, space = SHARES[name]
        r_t, r_s = reduction**time, reduction ** (space / 2)
    if min(r_t, r_s) < 1 or r_t * r_s**2 <= 1:
        raise BadInput(
            f"the configuration {name} does not reduce what a step sees; both factors are 1 or "
            "more, and one of them is more"
        )
    return Fidelity(name, r_t, r_s)


def planned(
    config: str, reduction: float = PUBLISHED, snippets: int = 100, side: int = 224
) -> tuple[Fidelity, ...]:
    """All that a run with this configuration goes through.

    Args:
        snippets, side: of a video at full fidelity.

    Raises:
        BadInput: as `fidelity`, or rounding leaves nothing of the reduction.
    """
    names = tuple(SHARES) if config in CYCLES else (config,)
    plan = tuple(fidelity(name, reduction) for name in names)
    for one in plan:
        if (one.snippets(snippets), one.side(side)) == (snippets, side):
            raise BadInput(
                f"the configuration {one.name} leaves {snippets} snippets of {side} pixels as they "
                "are; take larger factors"
            )
    return plan


def turn(config: str, epoch: int, batch: int, per_epoch: int) -> int:
    """Which of the planned ones a batch has: a function of its place alone."""
    if config not in CYCLES:
        return 0
    every = CYCLES[config]
    passed = epoch if every is None else (epoch * per_epoch + batch) // every
    return passed % len(SHARES)
