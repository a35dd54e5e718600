"""What LoFi's steps hold in memory: the committed record, its figure, the way it is measured."""

from __future__ import annotations

from pathlib import Path

import pytest

from movinet_edge.benchmarks.lofi_memory import draw_lofi_memory, measure, read


def test_reduced_steps_take_less_than_a_third(tmp_path: Path) -> None:
    record = read()
    points = {point.name: point for point in record.points}
    assert list(points) == ["full", "S", "T", "ST"]
    full = points.pop("full")
    assert (full.snippets, full.share) == (100, 1)
    for point in points.values():
        assert point.share == point.bytes / full.bytes
        assert point.share <= 0.3
        assert point.r_t * point.r_s**2 == pytest.approx(4)
    draw_lofi_memory(record, tmp_path / "figure.svg")
    assert (tmp_path / "figure.svg").read_text().startswith("<?xml")


def test_measured_on_a_small_encoder() -> None:
    record = measure("tsm-tiny", 32, 1, "cpu")
    assert {p.name: (p.snippets, p.side) for p in record.points} == {
        **{"full": (100, 32), "S": (100, 16), "T": (25, 32), "ST": (50, 23)},
    }
    assert all(point.share < 0.6 for point in record.points[1:])
