"""What the core adds to its engines: ``python -m android_demo.overhead BUNDLE --out JSON``.

Runs the core's benchmark on this computer's JVM, on both engines, and writes one record. A busy
machine only adds to a step, so of several runs the one with the least is kept. The core must be
compiled (``mvn -pl core -am package -DskipTests`` in this folder).
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from movinet_edge.benchmarks.app import ENGINES
from movinet_edge.benchmarks.record import Report
from movinet_edge.cli.main import fail
from movinet_edge.errors import BadInput, CheckFailed
from movinet_edge.files import atomic_file

PROJECT = Path(__file__).parent
CORE = PROJECT / "core/target"
NATIVES = PROJECT / "tflite-jvm/target/native/lib"
RUNS = 3
STEPS = 300


def stand_in(folder: str | Path, *flags: str) -> list[str]:
    """The command that is the app's driven benchmark here, with its files in `folder`."""
    listed = CORE / "test-class-path"
    if not listed.is_file():
        raise BadInput(
            f"the core is not compiled; run mvn -pl core -am package -DskipTests in {PROJECT}"
        )
    # Of TensorFlow Lite the classes that have natives here.
    jars = [jar for jar in listed.read_text().split(os.pathsep) if "tflite/target" not in jar]
    path = os.pathsep.join([str(CORE / "classes"), str(CORE / "test-classes"), *jars])
    words = [shutil.which("java") or "java", *flags, f"-Djava.library.path={NATIVES}"]
    return [*words, "-cp", path, "io.movinetedge.StandInKt", str(folder)]


def run(bundle: Path, engine: str) -> Report:
    """
    Raises:
        CheckFailed: there is no record.
    """
    with tempfile.TemporaryDirectory() as work:
        folder = Path(work)
        shutil.copytree(bundle, folder / "bundles" / "bundle")
        extras = ("--es", "bundle", "bundle", "--es", "engine", engine, "--es", "out", "record")
        words = [*stand_in(folder), *extras, "--ei", "steps", str(STEPS)]
        said = subprocess.run(words, capture_output=True, text=True, check=False).stderr
        record = folder / "records/record"
        if not record.is_file():
            told = [path.read_text() for path in record.parent.glob("record.*ed")]
            raise CheckFailed(f"there is no record of {engine}: {(told or [said[-500:]])[0]}")
        return Report.model_validate_json(record.read_bytes())


def best(reports: Sequence[Report]) -> Report:
    return min(reports, key=lambda report: report.measurements[0].overhead_ms)


def main() -> None:
    parser = argparse.ArgumentParser(description="Measure what the core adds to its engines.")
    parser.add_argument("bundle", type=Path, help="folder")
    parser.add_argument("--out", type=Path, required=True, metavar="JSON")
    how = parser.parse_args()
    kept = [best([run(how.bundle, engine) for _ in range(RUNS)]) for engine in ENGINES]
    measurements = tuple(report.measurements[0] for report in kept)
    note = f"of {RUNS} runs each the one with the least overhead"
    whole = kept[0].model_copy(update={"measurements": measurements, "notes": (note,)})
    with atomic_file(how.out, parents=True) as target:
        target.write_text(whole.model_dump_json(indent=1) + "\n")
    for one in measurements:
        print(f"{one.subject.name}: {one.overhead_ms:.3f} ms of {one.step_ms.p50:.2f} ms")


if __name__ == "__main__":
    try:
        main()
    except (BadInput, CheckFailed) as error:
        sys.exit(fail(str(error), 2 if isinstance(error, BadInput) else 1))
