"""A benchmark against an earlier one."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from movinet_edge.benchmarks.baseline import check_slowdowns, read_report, slowdowns
from movinet_edge.errors import BadInput, CheckFailed
from tests.commands import Command

COMMITTED = Path(__file__).parents[1] / "benchmarks/results/a0.json"


def changed(tmp_path: Path, **factors: float) -> Path:
    """The committed report with times and the reference kernel's speed multiplied."""
    content: dict[str, Any] = json.loads(COMMITTED.read_text())
    content["machine"]["sgemm_gmacs"] *= factors.get("kernel", 1)
    for measured in content["measurements"]:
        for key in measured["step_ms"]:
            measured["step_ms"][key] *= factors.get("time", 1)
    path = tmp_path / "changed.json"
    path.write_text(json.dumps(content))
    return path


def test_a_machine_half_as_fast_is_no_slowdown(tmp_path: Path) -> None:
    before = read_report(COMMITTED)
    after = read_report(changed(tmp_path, time=2, kernel=0.5))
    found = slowdowns(after, before)
    assert len(found) == len(before.measurements)
    assert all(ratio == pytest.approx(1) for ratio in found.values())
    check_slowdowns(found, 1.01)


def test_a_slower_model_is_one(tmp_path: Path) -> None:
    found = slowdowns(read_report(changed(tmp_path, time=1.3)), read_report(COMMITTED))
    assert all(ratio == pytest.approx(1.3) for ratio in found.values())
    check_slowdowns(found, 1.31)
    with pytest.raises(CheckFailed, match=r"slower than the baseline by more than 1.15: .* 1.30"):
        check_slowdowns(found, 1.15)
    with pytest.raises(CheckFailed, match="nan"):
        check_slowdowns({"x": float("nan")}, 1.15)


def test_what_cannot_be_compared(tmp_path: Path) -> None:
    one = read_report(COMMITTED)
    other = one.model_copy(update={"measurements": ()})
    with pytest.raises(BadInput, match="measured nothing that was measured now"):
        slowdowns(one, other)
    bare = {"sgemm_gmacs": None, "device": "adb:1", "model": "Phone"}
    first, second = (
        one.model_copy(update={"machine": one.machine.model_copy(update=bare | {"model": name})})
        for name in ("Phone", "Tablet")
    )
    assert slowdowns(first, first)
    with pytest.raises(BadInput, match="compare a device with itself"):
        slowdowns(first, second)
    phone = one.machine.model_copy(update={"sgemm_gmacs": None, "device": "adb:1"})
    with pytest.raises(BadInput, match="of host and this of adb:1; compare a device with itself"):
        slowdowns(one.model_copy(update={"machine": phone}), one)
    (tmp_path / "x.json").write_text("{}")
    with pytest.raises(BadInput, match=r"x.json is no report of bench --json"):
        read_report(tmp_path / "x.json")
    with pytest.raises(BadInput, match="cannot be read"):
        read_report(tmp_path / "nothing.json")


def test_the_command(call: Command, small_bundle: Path, tmp_path: Path) -> None:
    words = ("bench", small_bundle, "--backend", "onnxruntime", "--steps", 8)
    code, _, err = call(*words, "--json", tmp_path / "r.json")
    assert code == 0, err
    # What a busy machine does to few steps is not the matter here.
    code, out, err = call(*words, "--baseline", tmp_path / "r.json", "--max-slowdown", 1000)
    assert code == 0, err
    assert "times the baseline" in out
    code, _, err = call(*words, "--baseline", tmp_path / "r.json", "--max-slowdown", 0.0001)
    assert code == 1
    assert "slower than the baseline by more than 0.0001" in err
    code, _, err = call(*words, "--max-slowdown", 2)
    assert (code, "needs a --baseline" in err) == (2, True)
