"""The table and the figure of AR-Net on the adaptive motion videos, from records."""

from pathlib import Path

import pytest

from movinet_edge.benchmarks import arnet_figures, arnet_motion
from movinet_edge.benchmarks.arnet_bundles import FRAMES, BundleRuns, Cost, Saving, save
from movinet_edge.benchmarks.arnet_full_size import PREFIX
from movinet_edge.benchmarks.machine import describe_machine
from movinet_edge.benchmarks.slowfast import ENGINES
from movinet_edge.benchmarks.training_figures import motion_records


@pytest.fixture
def records(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Two seeds of AR-Net, one of the largest scale alone, and a setting of the dial."""
    base = motion_records()["stream"]
    usage = {"a": 0.5, "b": 0.5}
    for name, changes in {
        "scale-80-0": {"top1": 0.5, "gflops_per_frame": 0.010},
        "arnet-0": {"top1": 0.8, "gflops_per_frame": 0.002, "usage": usage},
        "arnet-1": {"top1": 0.9, "gflops_per_frame": 0.004, "usage": {"a": 1.0, "b": 0.0}},
        "dial-GFLOPs-0-0": {"top1": 0.8, "gflops_per_frame": 0.002},
    }.items():
        (tmp_path / f"{name}.json").write_text(base.model_copy(update=changes).to_json())
    costs = {
        who: Cost(runs={"policy": 16.0}, mmacs=mmacs, ms=ms, engine_ms=ms / 2)
        for who, mmacs, ms in (("ours", 60.0, 5.0), ("alone", 300.0, 20.0))
    }
    run = BundleRuns(
        **{"model": "m", "engine": "litert", "precision": "int8", "data": "d", "videos": 10},
        **{"frames": 160, "top1": 0.8, "equal_decisions": 0.995, "equal_answers": 1.0},
        **{"machine": describe_machine(None), "versions": {}, **costs},
    )
    save(run, tmp_path / "litert-int8-0.json")
    shared = run.model_dump(include=set(Saving.model_fields))
    save(Saving.model_validate(shared), tmp_path / "saving-m-litert--1.json")
    monkeypatch.setattr(arnet_figures, "RESULTS", tmp_path)
    return tmp_path


@pytest.mark.usefixtures("records")
def test_the_table_has_seeds_and_costs() -> None:
    rows = arnet_figures.arnet_table().splitlines()
    assert "| UNIFORM (80 pixels only) | 50.0 (50.0) | 10.00 | 100% | – |" in rows
    assert "| AR-Net | 85.0 (80.0 / 90.0) | 3.00 | 30% | 0.50 bits |" in rows


@pytest.mark.usefixtures("records")
def test_the_table_of_bundles() -> None:
    (*_, row) = arnet_figures.bundle_table().splitlines()
    assert row == "| LiteRT | int8 | 80.0 | 99.50% | 100.00% | 0.200 | 0.250 | 0.250 | 5.0 |"


@pytest.mark.usefixtures("records")
def test_the_table_of_published_scales() -> None:
    (*_, row) = arnet_figures.saving_table().splitlines()
    assert row == "| `m` | LiteRT | 0.200 | 0.250 | 0.250 | 5.0 |"


def test_the_figure_shows_baselines_and_the_dial(records: Path) -> None:
    target = records / "costs.svg"
    arnet_figures.draw_costs(target)
    drawn = target.read_text()
    assert "AR-Net on the adaptive" not in drawn  # text is drawn as paths
    assert drawn.count("<use") > 3


def test_the_committed_evaluations_keep_what_is_promised() -> None:
    """Means of three seeds; see docs/arnet.md."""
    names = ("arnet-dearer", "arnet-cheaper", "multi-scale", "random", arnet_motion.ALONE)
    runs = {name: arnet_figures.found(name) for name in names}
    assert {len(records) for records in runs.values()} == {3}
    top1 = {name: arnet_figures.top1(records) for name, records in runs.items()}
    cost = {name: arnet_figures.cost(records) for name, records in runs.items()}
    assert top1["arnet-dearer"] >= top1["multi-scale"] - 1
    assert cost["arnet-dearer"] <= 0.4 * cost["multi-scale"]
    assert top1["arnet-dearer"] > top1[arnet_motion.ALONE]
    assert cost["arnet-dearer"] <= 0.5 * cost[arnet_motion.ALONE]
    assert top1["arnet-cheaper"] >= top1["random"] + 10
    assert cost["arnet-cheaper"] <= cost["random"]
    for record in arnet_figures.found(arnet_motion.CHOSEN):
        assert record.usage is not None
        assert arnet_figures.entropy(record.usage) > 1


@pytest.mark.parametrize("engine", ENGINES)
def test_the_committed_bundles_do_as_pytorch_does(engine: str) -> None:
    for seed in "012":
        floats, integers = (
            BundleRuns.model_validate_json(
                (arnet_figures.RESULTS / f"{engine}-{precision}-{seed}.json").read_text("utf-8")
            )
            for precision in ("fp32", "int8")
        )
        assert floats.equal_decisions >= 0.999
        assert floats.equal_answers >= 0.999
        assert integers.top1 >= floats.top1 - 0.01
        assert integers.ours.mmacs <= 1.05 * floats.ours.mmacs


@pytest.mark.parametrize("engine", ENGINES)
def test_the_committed_saving_at_the_published_cost(engine: str) -> None:
    """About half of the work, as published, takes about half of the time, within 15 %."""
    path = arnet_figures.RESULTS / f"saving-arnet-resnet-{engine}--2.json"
    run = Saving.model_validate_json(path.read_text("utf-8"))
    promised = run.ours.mmacs / run.alone.mmacs
    assert 0.4 < promised < 0.6
    assert run.ours.ms / run.alone.ms <= 1.15 * promised


@pytest.mark.parametrize("engine", ENGINES)
def test_the_committed_saving_of_a_trained_model(engine: str) -> None:
    """At 224 pixels, too; and nothing is run in vain."""
    path = arnet_figures.RESULTS / f"{PREFIX}{engine}-fp32-0.json"
    run = BundleRuns.model_validate_json(path.read_text("utf-8"))
    promised = run.ours.mmacs / run.alone.mmacs
    assert promised < 0.5
    assert abs(run.ours.ms / run.alone.ms - promised) <= 0.15 * promised
    assert run.equal_decisions >= 0.999
    assert run.equal_answers >= 0.999
    looks = dict(run.ours.runs)
    decisions = looks.pop("policy")
    assert sum(looks.values()) <= decisions <= FRAMES
