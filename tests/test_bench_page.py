"""Benchmarks as a page."""

from __future__ import annotations

import html
import json
import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from movinet_edge.benchmarks.page import Accuracy
from movinet_edge.benchmarks.record import Report
from tests.browser import Browser
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


def mixed_records(folder: Path) -> list[Path]:
    """One model on this computer, on a phone's processor and its NNAPI, and by PyTorch on a GPU."""
    here = Report.model_validate_json(COMMITTED[0].read_bytes())
    first = next(m for m in here.measurements if m.subject.kind == "bundle")
    phone, gpu = {"device": "adb:0A1B", "model": "Pixel 8"}, {"device": "cuda", "model": "H100"}
    cases: dict[str, tuple[dict[str, str], str, float, str | None]] = {
        "phone": (phone, "native onnxruntime", 2.0, "xnnpack"),
        "nnapi": (phone, "native onnxruntime nnapi", 0.5, "nnapi"),
        "cuda": (gpu, "pytorch graphs bf16", 0.1, None),
    }
    paths = [COMMITTED[0]]
    for name, (machine, label, slower, delegate) in cases.items():
        step = {k: v * slower for k, v in first.step_ms.model_dump().items()}
        files = [f.model_dump() | {"delegate": delegate} for f in first.subject.files]
        subject = first.subject.model_dump() | {"label": label, "name": label, "files": files}
        long = {"seconds": 600, "throttled": 1.25, "temperatures": [(0, 31.0), (590, 43.5)]}
        energy = {"source": "battery", "joules_per_step": 0.0123}
        spread = {"batch": 8, "frames": 16, "batch_ms": step, "clips_per_second": 321.5}
        more = {"sustained": long, "energy": energy} if machine is phone else {"clips": spread}
        one = first.model_dump() | {"subject": subject, "step_ms": step} | more
        changes = {"measurements": [one], "comparisons": [], "notes": []}
        changes["machine"] = here.machine.model_dump() | machine  # type: ignore[assignment]
        report = Report.model_validate(here.model_dump() | changes)
        paths.append(folder / f"{name}.json")
        paths[-1].write_text(report.model_dump_json())
    return paths


def test_devices_side_by_side(call: Command, tmp_path: Path) -> None:
    """On one scale, by what computed; what only some records have is a dash elsewhere."""
    records = mixed_records(tmp_path)
    code, _, err = call("report", *records, "--html", tmp_path / "p.html")
    assert code == 0, err
    text = html.unescape((tmp_path / "p.html").read_text())
    _, found, after = text.partition(", device by device</h2>")
    assert found
    names = re.findall(r'<span class="name">([^<]*)</span>', after.partition("<h2>")[0])
    assert names[0] == "GPU of cuda (H100): pytorch graphs bf16"
    assert names[1] == "NNAPI of adb:0A1B (Pixel 8): native onnxruntime nnapi"
    assert "CPU of adb:0A1B (Pixel 8): native onnxruntime" in names
    assert any(name.startswith("CPU of host (") for name in names)
    assert "after 600 s steps took 1.25 times as long, 31 to 44 °C" in text
    assert '<td class="number">12.3</td>' in text
    assert '<td class="number">321.5</td>' in text


@pytest.mark.browser
@pytest.mark.parametrize("width", [1280, 390])
def test_it_reads_well_in_a_browser(call: Command, tmp_path: Path, width: int) -> None:
    """Nothing is wider than the screen, and the picture shows something from top to bottom."""
    records = [*mixed_records(tmp_path), accuracy(tmp_path / "e.json")]
    code, _, err = call("report", *records, "--html", tmp_path / "p.html")
    assert code == 0, err
    shown = Browser.found().open(tmp_path / "p.html", width)
    assert shown.width == width
    assert shown.wider == []
    assert shown.requests == 0
    pixels = np.asarray(shown.picture.convert("L"), np.float32)
    thirds = np.array_split(pixels, 3)
    assert all(third.std() > 5 for third in thirds)


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
