"""The benchmark of SGAlign: both ways compute the same, and what it says of them."""

from __future__ import annotations

import pytest

from movinet_edge.benchmarks.sgalign import RESULT, AlignRecord, measure
from movinet_edge.models.gtad_table import GTadArch

SIZES = {"features": 8, "snippets": 12, "bins": 8, "context_bins": 2}


@pytest.mark.parametrize(("durations", "kernel"), [(12, 1), (5, 3)])
def test_both_ways_compute_the_same(durations: int, kernel: int) -> None:
    arch = GTadArch.model_validate(SIZES | {"durations": durations, "kernel": kernel})
    record = measure(arch, rounds=2, batch=2)
    assert record.difference < 1e-5
    assert record.memory == record.ours.both_bytes / record.naive.both_bytes < 1
    assert AlignRecord.model_validate_json(record.model_dump_json()) == record
    # Weights, their gradients and both averages of Adam are four times the same.
    weights = 4 * (256 * 10 * 512)
    assert record.training_bytes > 4 * weights


def test_the_committed_measurement_keeps_what_is_promised() -> None:
    """A step of the head of ActivityNet, by the materialised map's; see docs/localization.md."""
    record = AlignRecord.model_validate_json(RESULT.read_text("utf-8"))
    assert (record.snippets, record.durations, record.bins) == (100, 100, (32, 4))
    assert record.forward <= 1 / 20
    assert record.both <= 1 / 12
    assert record.memory <= 1 / 5
    assert record.difference < 1e-5
    assert (record.batch, record.threads) == (16, 1)
    assert record.training_bytes < 4e9
