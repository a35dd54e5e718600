"""From samples to the numbers of a record."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from movinet_edge.benchmarks.record import Cold, Comparison, Distribution, Spread, Sustained

Samples = Sequence[float] | np.ndarray


def distribution(samples: Samples) -> Distribution:
    """The distribution of at least one sample, in the samples' unit."""
    values = np.asarray(samples, np.float64)
    p10, p50, p90, p99 = np.percentile(values, (10, 50, 90, 99)).tolist()
    return Distribution(
        min=float(values.min()), p10=p10, p50=p50, p90=p90, p99=p99, mean=float(values.mean())
    )


def spread(ratios: Samples) -> Spread:
    """Median and outer tenths of ratios."""
    p10, p50, p90 = np.percentile(np.asarray(ratios, np.float64), (10, 50, 90)).tolist()
    return Spread(p10=p10, p50=p50, p90=p90)


def compare(
    label: str,
    samples: Samples,
    baseline: str,
    base_samples: Samples,
    paired: bool,
    per_round: int = 1,
) -> Comparison:
    """`samples` against `base_samples`; `paired` if they are of the same rounds, in order."""
    ours, theirs = np.asarray(samples, np.float64), np.asarray(base_samples, np.float64)
    rounds = None
    if paired:
        a, b = (np.median(values.reshape(-1, per_round), axis=1) for values in (ours, theirs))
        rounds = spread(a / b)
    return Comparison(
        label=label,
        baseline=baseline,
        ratio_of_medians=float(np.median(ours) / np.median(theirs)),
        paired=rounds,
    )


def cold_starts(load_ms: Sequence[float], first_step_ms: Sequence[float]) -> Cold:
    """What starts in fresh processes took."""
    return Cold(
        processes=len(load_ms),
        load_ms=distribution(load_ms),
        first_step_ms=distribution(first_step_ms),
        start_ms=distribution(np.add(load_ms, first_step_ms)),
    )


def sustained(
    step_ms: Sequence[float], seconds: float, temperatures: Sequence[tuple[float, float]]
) -> Sustained:
    """What a long run's samples say about throttling."""
    tenth = max(len(step_ms) // 10, 1)
    first, last = np.median(step_ms[:tenth]), np.median(step_ms[-tenth:])
    return Sustained(
        seconds=seconds, throttled=float(last / first), temperatures=tuple(temperatures)
    )
