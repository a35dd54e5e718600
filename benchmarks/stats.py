"""From samples to the numbers of a record."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from movinet_edge.benchmarks.record import Comparison, Distribution, Spread, Sustained

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
    label: str, samples: Samples, baseline: str, base_samples: Samples, paired: bool
) -> Comparison:
    """`samples` against `base_samples`; `paired` if sample i of both is of the same round."""
    ours, theirs = np.asarray(samples, np.float64), np.asarray(base_samples, np.float64)
    return Comparison(
        label=label,
        baseline=baseline,
        ratio_of_medians=float(np.median(ours) / np.median(theirs)),
        paired=spread(ours / theirs) if paired else None,
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


def peak_percent(macs: float | None, step_ms: float, peak_gmacs: float) -> float | None:
    """Percent of `peak_gmacs` (10^9 MAC/s) that `macs` in `step_ms` make."""
    return None if macs is None else 100 * macs / (step_ms * 1e6) / peak_gmacs
