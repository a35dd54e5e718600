"""Which hard-swishes to equalise and which blocks to leave in floats, from what int8 loses."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping

from movinet_edge.bundle import Record
from movinet_edge.export.sensitivity import Analysis, Quality


class Policy(Record):
    """What static int8 treats with care: sites that it equalises, blocks that it leaves float."""

    equalise: tuple[str, ...] = ()
    keep_float: tuple[str, ...] = ()

    def __str__(self) -> str:
        equalised = f"{len(self.equalise) or 'no'} hard-swishes equalised"
        return f"{equalised}, {', '.join(self.keep_float) or 'nothing'} left in floats"


class Choice(Record):
    """A policy, the simulation's quality of it, and whether that meets what was asked for."""

    policy: Policy
    quality: Quality
    reached: bool


def choose(
    analysis: Analysis,
    target_db: float = 25.0,
    min_gain_db: float = 0.5,
    costs: Mapping[str, float] | None = None,
) -> Choice:
    """As few sites as reach `target_db`; none if plain int8 does, or if all gain next to nothing.

    Sites are taken in the order of `by_worth`. Where all together miss the target, as few as come
    within `min_gain_db` of all of them.
    """
    plain = analysis.plain
    if plain.snr_db >= target_db or not analysis.instrument.sites:
        return Choice(policy=Policy(), quality=plain, reached=plain.snr_db >= target_db)
    order = by_worth(analysis, costs)
    every = analysis.measure(order)
    sites, quality = list[str](), plain
    if every.snr_db >= plain.snr_db + min_gain_db:
        enough = target_db if every.snr_db >= target_db else every.snr_db - min_gain_db
        few, many, sites, quality = 0, len(order), order, every
        while many - few > 1:
            half = (few + many) // 2
            found = analysis.measure(order[:half])
            if found.snr_db >= enough:
                many, sites, quality = half, order[:half], found
            else:
                few = half
    policy = _policy(analysis, sites)
    return Choice(policy=policy, quality=quality, reached=quality.snr_db >= target_db)


def by_worth(analysis: Analysis, costs: Mapping[str, float] | None = None) -> list[str]:
    """Lossy sites, first those that add most noise per cost (default: multiplications)."""
    worth = {
        name: (10 ** (loss / 10) - 1) / max((costs or {}).get(name, analysis.elements(name)), 1e-9)
        for name, loss in analysis.site_losses.items()
        if loss > 0
    }
    return sorted(worth, key=lambda name: -worth[name])


def ladder(analysis: Analysis) -> list[Policy]:
    """Policies from the cheapest to the dearest: each treats about twice as much with care.

    First plain int8, then more and more sites equalised, then also blocks in floats, those first
    that lose most alone; the last has floats everywhere but in dense layers.
    """
    order = by_worth(analysis)
    blocks = sorted(analysis.alone, key=lambda name: analysis.alone[name][0])
    steps = [_policy(analysis, order[:count]) for count in (0, *_doubled(len(order)))]
    return steps + [_policy(analysis, order, blocks[:count]) for count in _doubled(len(blocks))]


def _doubled(most: int) -> list[int]:
    """1, 2, 4, ... and `most`."""
    return [*(1 << n for n in range(most.bit_length()) if 1 << n < most), most] if most else []


def _policy(analysis: Analysis, sites: Iterable[str], keep_float: Collection[str] = ()) -> Policy:
    """In the model's order; blocks that are float need no equalising."""
    chosen, found = set(sites), analysis.instrument
    return Policy(
        equalise=tuple(
            name
            for name, site in found.sites.items()
            if name in chosen and site.block not in keep_float
        ),
        keep_float=tuple(name for name in found.blocks if name in keep_float),
    )
