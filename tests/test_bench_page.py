"""Benchmarks as a page."""

from __future__ import annotations

import json
import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from movinet_edge.benchmarks.page import Accuracy
from movinet_edge.benchmarks.record import Report
from tests.commands import Command, Refused

RESULTS = Path(__file__).parents[1] / "benchmarks/results"
COMMITTED = [RESULTS / "a0.json", RESULTS / "a1.json"]


def accuracy(path: Path, **changes: Any) -> Path:
    """A record of an evaluation of the first bundle that a0.json measured."""
    report = Report.model_validate_json(COMMITTED[0].read_bytes())
    subject = next(m.subject for m in report.measurements if m.subject.kind == "bundle")
    engine = f"{subject.backend} {subject.engine_version}"
    record = {"model": subject.bundle, "engine": engine, "top1": 0.8125} | changes
    path.write_text(json.dumps(record))
    return path


def test_all_that_was_measured_is_on_the_page(call: Command, tmp_path: Path) -> None:
    page = tmp_path / "p.html"
    code, out, err = call("report", *COMMITTED, accuracy(tmp_path / "e.json"), "--html", page)
    assert code == 0, err
    assert f"wrote {page}" in out
    text = page.read_text()
    for path in COMMITTED:
        for measured in Report.model_validate_json(path.read_bytes()).measurements:
            assert f"<th>{measured.subject.label}</th>" in text.replace("&#34;", '"')
            assert f"{measured.step_ms.p50:.2f} ms" in text
    assert "Accuracy against latency" in text
    assert "81.2 %" in text
    HTMLParser().feed(text)
    assert not re.findall(r"(?:src|href)=|https?://", text), "the page needs no network"
    again = tmp_path / "again.html"
    call("report", *COMMITTED, tmp_path / "e.json", "--html", again)
    assert again.read_text() == text


def test_accuracies_of_something_else_are_left_out(call: Command, tmp_path: Path) -> None:
    other = accuracy(tmp_path / "e.json", model="another")
    code, _, _ = call("report", *COMMITTED, other, "--html", tmp_path / "p.html")
    assert code == 0
    assert "Accuracy against latency" not in (tmp_path / "p.html").read_text()


def test_what_was_evaluated_with_what() -> None:
    known = {"model": "m", "top1": 0.5, "multi_label": True, "mean_average_precision": 0.25}
    int8 = Accuracy.model_validate({"engine": "litert 2.3.0 (int8)"} | known)
    assert (int8.key, int8.score) == (("m", "litert", "int8"), 0.25)
    assert Accuracy.model_validate({"engine": "onnxruntime 1.3"} | known).key[1:] == (
        "onnxruntime",
        "fp32",
    )


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (None, "cannot be read"),
        ("{}", "is neither of bench --json nor of evaluate --json; leave it out"),
        ('{"model": "m", "engine": "e 1", "top1": 1}', "there is no report of bench --json among"),
    ],
)
def test_wrong_files(refused: Refused, tmp_path: Path, content: str | None, says: str) -> None:
    path = tmp_path / "x.json"
    if content is not None:
        path.write_text(content)
    assert says in refused("report", path, "--html", tmp_path / "p.html")
    assert not (tmp_path / "p.html").exists()
