"""Committed records of localization: how encoders compare, and bundles that find the same."""

from __future__ import annotations

from statistics import mean

from movinet_edge.benchmarks import localization_bundles as bundles
from movinet_edge.benchmarks import localization_figures as figures
from movinet_edge.benchmarks import localization_live as live
from movinet_edge.benchmarks import localization_motion as motion
from movinet_edge.benchmarks.slowfast import ENGINES


def test_encoders_compare_as_the_documentation_says() -> None:
    """Means of three seeds; see docs/localization.md."""
    # The short cycle has not been trained.
    runs = {arm: figures.found(arm) for arm in motion.ENCODERS if arm != "lofi-cycle-short"}
    assert {len(records) for records in runs.values()} == {3}
    score = {arm: mean(record.score for record in records) for arm, records in runs.items()}
    assert score["icp"] < score["acp"] <= score["acp-plus"] < score["lofi-cycle-long"]
    assert score[motion.LONGER] >= score["acp-plus"] + 0.01
    assert all(score[motion.LONGER] >= score[f"lofi-{config}"] for config in ("S", "T", "ST"))
    rows = figures.motion_table().splitlines()
    assert len(rows) == 2 + len(runs)
    assert f"{100 * score['acp']:.1f} (" in rows[3]


def test_bundles_find_what_pytorch_finds() -> None:
    runs = bundles.records()
    for name in {run.model for run in runs}:
        own = [run for run in runs if run.model == name]
        assert {run.engine for run in own} == set(ENGINES)
        for run in own:
            assert run.videos == bundles.VIDEOS
            if run.precision in ("fp32", "fp16"):
                assert run.alike >= 0.99 * run.clear > 0
                assert abs(run.average_map - run.reference_map) <= 0.001
            else:
                assert abs(run.average_map - run.reference_map) <= 0.01
    assert {run.precision for run in runs} == set(bundles.PRECISIONS)


def test_half_an_hour_of_a_stream() -> None:
    for engine in ENGINES:
        run = live.read(engine)
        assert run.minutes == 30
        assert run.growth_mb < 4
        assert run.alike == run.final > 100
        assert run.told >= 0.99 * run.owned
