"""The Android app's core, in Kotlin: its tests on real engines, the records that it writes."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import xml.etree.ElementTree as ET
from dataclasses import replace
from pathlib import Path

import av
import numpy as np
import pytest

from android_demo.overhead import STEPS
from movinet_edge.benchmarks.bundled import bytes_per_step, macs_per_step
from movinet_edge.benchmarks.record import Report
from movinet_edge.bundle import MANIFEST, Bundle, sha256_of
from movinet_edge.pattern import moving_pattern
from tests.android_fixtures import forget_stale, sources_sha256
from tests.android_frames import PLAIN, Case, rgb

ROOT = Path(__file__).parents[1]
PROJECT = ROOT / "android_demo"
REPORTS = PROJECT / "core/target/surefire-reports"
needs_maven = pytest.mark.skipif(not shutil.which("mvn"), reason="Maven is not installed")
OVERHEAD = ROOT / "benchmarks/results/android/core.json"
MAX_OVERHEAD_MS = 0.3  # per step of A0
RANGES = {True: 2, False: 1}  # FFmpeg's numbers


@pytest.fixture(scope="module")
def fixtures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Exported anew, unless MOVINET_EDGE_ANDROID names a folder to keep them in."""
    kept = os.environ.get("MOVINET_EDGE_ANDROID")
    folder = Path(kept) if kept else tmp_path_factory.mktemp("android") / "fixtures"
    words = [sys.executable, "-m", "tests.android_fixtures", str(folder)]
    subprocess.run(words, cwd=ROOT, check=True)
    return folder


def maven(*words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["mvn", "-B", "-ntp", *words], cwd=PROJECT, capture_output=True, text=True
    )


def is_tested(fixtures: Path) -> bool:
    """Whether the core's reports are of its sources and of these fixtures, as they are now."""
    reports = [path.stat().st_mtime for path in REPORTS.glob("TEST-*.xml")]
    read = [*PROJECT.glob("*/src/**/*"), *PROJECT.glob("**/pom.xml"), *fixtures.rglob("*")]
    return bool(reports) and min(reports) > max(
        path.stat().st_mtime for path in read if path.is_file()
    )


@pytest.fixture(scope="module")
def built(fixtures: Path) -> Path:
    """The core's target folder, after its tests have run and passed (`make android` runs them)."""
    if not is_tested(fixtures):
        done = maven("clean", "verify", "-pl", "core", "-am", f"-Dfixtures={fixtures.resolve()}")
        assert done.returncode == 0, done.stdout[-8000:]
    return PROJECT / "core/target"


@needs_maven
@pytest.mark.android
@pytest.mark.timeout(1800)
def test_the_core_passes_its_tests(built: Path, fixtures: Path) -> None:
    suites = [ET.parse(path).getroot() for path in REPORTS.glob("TEST-*.xml")]
    assert sum(int(suite.attrib[bad]) for suite in suites for bad in ("failures", "errors")) == 0
    counts = {
        suite.attrib["name"].rpartition(".")[2]: int(suite.attrib["tests"]) for suite in suites
    }
    assert counts["SameNumbersTest"] > 20
    assert counts["PreprocessTest"] > 70
    assert {"MutationTest", "AllocationTest", "StreamTest", "EnginesTest"} <= set(counts)
    # Only what needs real clips may be left out, where there are none.
    skipped = sum(int(suite.attrib["skipped"]) for suite in suites)
    assert skipped == (0 if (fixtures / "clips").exists() else 1)


@needs_maven
@pytest.mark.android
@pytest.mark.timeout(1800)
def test_its_records_are_those_of_every_runner(built: Path, fixtures: Path) -> None:
    records = {path.stem: path for path in built.glob("records/*.json")}
    assert {"a0-onnxruntime", "a0-tflite", "arnet-tflite", "paced", "sustained"} <= set(records)
    for path in records.values():
        report = Report.model_validate_json(path.read_bytes())
        (measured,) = report.measurements
        assert report.machine.cores >= 1
        assert measured.engine_ms.p50 <= measured.step_ms.p50
    for name in ("a0", "ensemble", "slowfast", "arnet", "a0-clip"):
        for engine, fmt in (("onnxruntime", "onnx"), ("tflite", "tflite")):
            report = Report.model_validate_json(records[f"{name}-{engine}"].read_bytes())
            subject = report.measurements[0].subject
            bundle = Bundle(fixtures / name / "bundle")
            manifest = bundle.manifest
            planned = dict.fromkeys(step.graph for step in manifest.plan.steps)
            files = {
                graph: next(f for f in manifest.graph(graph).files if f.format == fmt)
                for graph in planned
            }
            length = max(manifest.graph(graph).frames for graph in planned)
            assert subject.manifest_sha256 == sha256_of(bundle.root / MANIFEST)
            assert subject.macs_per_step == pytest.approx(macs_per_step(manifest, length))
            assert subject.bytes_per_step == pytest.approx(bytes_per_step(manifest, files, length))
            assert subject.state_bytes == sum(
                manifest.graph(graph).state_bytes(file) for graph, file in files.items()
            )
            assert {f.sha256 for f in subject.files} == {f.sha256 for f in files.values()}


def test_its_overhead_is_small() -> None:
    """As it was measured, with the versions of today: ``python -m android_demo.overhead``."""
    pom = (PROJECT / "pom.xml").read_text()
    report = Report.model_validate_json(OVERHEAD.read_bytes())
    measured = {one.subject.backend: one for one in report.measurements}
    assert set(measured) == {"onnxruntime", "tflite"}
    for name, one in measured.items():
        assert one.overhead_ms <= MAX_OVERHEAD_MS
        assert one.engine_ms.p50 <= one.step_ms.p50
        assert one.method.steps >= STEPS
        assert (one.subject.bundle, one.subject.precision) == ("movinet-a0-stream", "fp32")
        versions = re.findall(rf"<{name}(?:-jvm|-natives)?.version>(.*?)</", pom)
        assert one.subject.engine_version in versions


@needs_maven
@pytest.mark.android
@pytest.mark.timeout(600)
def test_its_sources_are_clean() -> None:
    """ktlint and detekt."""
    done = maven("-N", "-Plint", "verify")
    assert done.returncode == 0, done.stdout[-8000:]


def test_stale_fixtures_are_made_anew(tmp_path: Path) -> None:
    def there() -> set[str]:
        return {path.name for path in tmp_path.iterdir() if path.is_dir()}

    for made_of, kept in (("1", False), ("1", True), ("2", False)):
        for name in ("a0", "frames", "clips", "somebody's"):
            (tmp_path / name / "inside").mkdir(parents=True, exist_ok=True)
        forget_stale(tmp_path, made_of)
        assert there() == {"somebody's"} | ({"a0", "frames", "clips"} if kept else set())


def test_fixtures_are_of_the_sources_that_make_them(tmp_path: Path) -> None:
    def written(name: str, text: str) -> str:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
        return sources_sha256(tmp_path)

    found = [
        written("export/deep/exporter.py", "1"),
        written("export/deep/exporter.py", "2"),
        written("movinet_edge/plan.py", "1"),
        written("movinet_edge/runtime/stream.py", "1"),
        written("tests/android_frames.py", "1"),
        written("movinet_edge/runtime/other.py", "1"),
    ]
    assert len(set(found)) == len(found)
    for other in ("docs/android.md", "tests/test_android_core.py", "movinet_edge/cli/main.py"):
        assert written(other, "1") == found[-1]


@pytest.mark.parametrize(
    "case",
    [replace(PLAIN, full=full, matrix=matrix) for full in RANGES for matrix in ("bt601", "bt709")],
)
def test_colours_are_those_of_ffmpeg(case: Case) -> None:
    """Within its own tables' rounding, on a picture whose colours are smooth."""
    image = moving_pattern(1, case.height, case.width)[0]
    y = image[..., 0] // 2 + 60
    u, v = (image[::2, ::2, channel] // 2 + 60 for channel in (1, 2))
    frame = av.VideoFrame(case.width, case.height, "yuv420p")
    for target, plane in zip(frame.planes, (y, u, v), strict=True):
        rows = np.zeros((target.height, target.line_size), np.uint8)
        rows[:, : plane.shape[1]] = plane
        target.update(rows)
    frame.color_range = RANGES[case.full]
    frame.colorspace = 1 if case.matrix == "bt709" else 5
    theirs = frame.to_ndarray(format="rgb24").astype(int)
    assert np.abs(theirs - rgb(case, y, u, v)).max() <= 4
