"""The runtime on a device that has Python: sent as one file, so that nothing is installed."""

from __future__ import annotations

import zipfile
from collections.abc import Sequence
from pathlib import Path

from pydantic import ValidationError

from movinet_edge.benchmarks.board import MODULE, BoardOptions, BoardRun
from movinet_edge.benchmarks.device import Device, Done
from movinet_edge.benchmarks.job import Job, Outcome
from movinet_edge.benchmarks.native import NativeOptions
from movinet_edge.benchmarks.native_plan import files_by_graph
from movinet_edge.benchmarks.native_record import check_answers
from movinet_edge.bundle import MANIFEST, Attachment, Bundle, ModelFile
from movinet_edge.child import ROOT
from movinet_edge.errors import BadInput
from movinet_edge.runtime.engines import Backend, backend_named

ARCHIVE, BUNDLE, RESULT = "movinet-edge.pyz", "bundle", "result.json"
PACKAGE = "movinet_edge"
PARTS = ("", "runtime", "benchmarks")  # what the runner imports lies in these
NEEDED = ("numpy", "pydantic")
OLDEST = (3, 11)
MAIN = f"import sys\nfrom {MODULE} import main\nmain(sys.argv[1:])\n"
# Works in any Python: the version, and which of the modules named are not there.
LOOK = """
import sys
from importlib.util import find_spec
print("%d.%d" % sys.version_info[:2], *[m for m in sys.argv[1:] if find_spec(m) is None])
"""
DELEGATES = {"litert": "xnnpack", "tflite": "xnnpack"}  # of the runtime
INTERPRETER = "litert-interpreter"
ELSE = "or leave out --runner python"


class PythonJob(Job):
    """The runtime by the device's Python; `python` is what it is called there.

    Raises:
        BadInput: the bundle has no such files, the delegate cannot be chosen, or the device lacks
            Python or what the runtime needs.
    """

    def __init__(
        self,
        device: Device,
        bundle: Bundle,
        options: NativeOptions,
        precision: str,
        work: Path,
        python: str,
    ):
        self.bundle, self.python = bundle, python
        backend = backend_for(options)
        files = files_by_graph(bundle, backend, precision)
        _look(device, python, [*NEEDED, backend.needs])
        manifest = bundle.manifest
        own: list[ModelFile | Attachment] = [manifest.golden, *files.values()]
        own += [manifest.labels] if manifest.labels is not None else []
        archive = _packed(work / ARCHIVE)
        self.files = [(archive, ARCHIVE), (bundle.root / MANIFEST, f"{BUNDLE}/{MANIFEST}")]
        self.files += [(bundle.file(entry), f"{BUNDLE}/{entry.path}") for entry in own]
        self.result = work / RESULT
        frames = max(manifest.graph(name).frames for name in files)
        self.patience = options.patience(frames)
        self.options = BoardOptions(
            bundle=BUNDLE,
            result=RESULT,
            backend=backend.name,
            precision=precision,
            threads=options.threads,
            steps=options.steps,
            rate=options.rate,
            minutes=options.minutes,
        )

    def command(self, place: str) -> list[str]:
        return [self.python, f"{place}/{ARCHIVE}", self.options.model_dump_json()]

    def outcome(self, device: Device, place: str, done: Done) -> Outcome:
        if done.code:
            own = [line for line in done.err.splitlines() if line.startswith("error: ")]
            reason = own[-1].removeprefix("error: ") if own else done.reason
            raise BadInput(f"{self.options.backend} does not run on {device.name}: {reason}")
        device.pull(f"{place}/{RESULT}", self.result)
        try:
            run = BoardRun.model_validate_json(self.result.read_bytes())
        except ValidationError as error:
            raise BadInput(f"{device.name} gave no record: {error.errors()[0]['msg']}") from None
        frames_per_step = run.measurement.subject.frames_per_step
        label, precision = run.measurement.subject.label, self.options.precision
        check_answers(self.bundle, precision, run.answers, frames_per_step, label)
        return Outcome(run.measurement, run.tools)


def backend_for(options: NativeOptions) -> Backend:
    """The runtime's backend for an engine.

    Raises:
        BadInput: it takes no other delegate.
    """
    if options.delegate not in (None, DELEGATES.get(options.engine, "none")):
        raise BadInput(f"--runner python has no delegate {options.delegate}; leave it out")
    return backend_named(INTERPRETER if options.engine == "tflite" else options.engine)


def _look(device: Device, python: str, modules: Sequence[str]) -> None:
    """Whether a device has what the runtime needs.

    Raises:
        BadInput: it has not; says what is missing.
    """
    done = device.run([python, "-c", LOOK, *modules])
    version, *missing = done.out.split() or ("",)
    if done.code or not version:
        raise BadInput(f"{device.name} has no {python} that runs; name one with --python, {ELSE}")
    if tuple(map(int, version.split("."))) < OLDEST:
        wanted = ".".join(map(str, OLDEST))
        raise BadInput(
            f"{python} on {device.name} is Python {version}, older than {wanted}; "
            f"name another with --python, {ELSE}"
        )
    if missing:
        names = " ".join(name.replace("_", "-") for name in missing)
        raise BadInput(
            f"{python} on {device.name} lacks {', '.join(missing)}; pip install {names} there, "
            f"name another with --python, {ELSE}"
        )


def _packed(target: Path) -> Path:
    """Our modules that run there as one file that Python runs."""
    package = Path(ROOT, PACKAGE)
    with zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("__main__.py", MAIN)
        for part in PARTS:
            for file in sorted((package / part).glob("*.py")):
                archive.write(file, f"{PACKAGE}/{part}/{file.name}".replace("//", "/"))
    return target
