"""The benchmark of the Android app (`android_demo`), driven over adb; nobody touches it."""

from __future__ import annotations

import secrets
import shlex
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from pydantic import ValidationError

from movinet_edge.benchmarks.adb import COPY_PATIENCE
from movinet_edge.benchmarks.device import Device, DeviceLost
from movinet_edge.benchmarks.native import NativeOptions
from movinet_edge.benchmarks.record import Report
from movinet_edge.bundle import MANIFEST, Bundle
from movinet_edge.errors import BadInput, CheckFailed
from movinet_edge.files import pack, sha256_of

PACKAGE = "io.movinetedge.app"
ENGINES = ("tflite", "onnxruntime")
# The app's own folder of the shared storage, which adb may write to as well.
FOLDER = f"/sdcard/Android/data/{PACKAGE}/files"
POLL = 0.5  # seconds between two looks
LINES = 3  # of the log, in a message
CRASHES = "AndroidRuntime:E DEBUG:F libc:F '*:S'"  # what logcat is to show

# Prints a word, and behind it what goes with it. The record may come meanwhile.
LOOK = """
cd {folder}/records 2>/dev/null
if [ -z "$(pidof {package})" ]; then state=gone; else state=running; fi
if [ -e {name} ]; then echo done
elif [ -e {name}.refused ]; then echo refused; cat {name}.refused
elif [ -e {name}.failed ]; then echo failed; cat {name}.failed
else echo $state; cat {name}.progress 2>/dev/null; fi
true
"""

Say = Callable[[str], None]


@dataclass(frozen=True)
class AppOptions:
    """What the app is to run: `run`, without a library and with one of `ENGINES`, in a `precision`.

    `mode` in the app's words. `apk` is installed where it is not there yet; `clean`: the app is
    removed at the end.
    """

    run: NativeOptions
    precision: str | None = None
    mode: str = "back-to-back"
    apk: Path | None = None
    clean: bool = False

    def extras(self, name: str) -> list[str]:
        """For ``am start``; the bundle and the record are called `name`."""
        words = {
            "bundle": f"{name}.zip",
            "out": name,
            "engine": self.run.engine,
            "delegate": self.run.delegate,
            "precision": self.precision,
            "mode": self.mode,
            "minutes": self.run.minutes,
        }
        numbers = {"threads": self.run.threads}
        if self.run.minutes is None:
            numbers["steps"] = self.run.steps
        found = [w for key, value in numbers.items() for w in ("--ei", key, str(value))]
        given = {key: value for key, value in words.items() if value is not None}
        return found + [w for key, value in given.items() for w in ("--es", key, str(value))]


def bench_app(
    device: Device, bundle: Bundle, options: AppOptions, say: Say = lambda _: None
) -> Report:
    """Measure a bundle in the app on an Android device, with its golden stream as proof.

    Raises:
        BadInput: the app is not there and cannot be installed, it refuses what it is asked for, or
            there is no room.
        CheckFailed: it computes wrong numbers, crashed, did not end in time or left no record of
            what was asked for; or the device was lost.
    """
    name = f"movinet-edge-{secrets.token_hex(6)}"
    with _installed(device, options, say), _pushed(device, bundle, name, say):
        since = device.shell("date '+%m-%d %H:%M:%S.000'").out.strip()
        _start(device, [f"{PACKAGE}/.BenchmarkActivity", *options.extras(name)])
        try:
            _wait(device, name, options.run.patience(), since, say)
            return _record(device, name, bundle, options)
        finally:
            with suppress(DeviceLost):
                device.shell(f"am force-stop {PACKAGE}")


@contextmanager
def _installed(device: Device, options: AppOptions, say: Say) -> Iterator[None]:
    """The app on the device, of the APK that was named."""
    found = device.shell(f"pm path {PACKAGE}").out.strip()
    there = found.splitlines()[0].removeprefix("package:") if found.startswith("package:") else None
    if options.apk is None:
        if there is None:
            raise BadInput(
                f"the app is not on {device.name}; build it (make android) and give it with --apk"
            )
    elif there is None or _sha256(device, there) != sha256_of(options.apk):
        _install(device, options.apk, say)
    try:
        yield
    finally:
        if options.clean:
            with suppress(DeviceLost):
                device.shell(f"pm uninstall {PACKAGE}")


def _install(device: Device, apk: Path, say: Say) -> None:
    say(f"{device.name}: installing {apk.name}")
    with device.workspace() as place:
        device.push(apk, f"{place}/app.apk")
        done = device.shell(f"pm install -r {place}/app.apk", COPY_PATIENCE)
    if done.code or "Success" not in done.out:
        raise BadInput(
            f"{device.name} does not take {apk.name}: {done.reason}; if an app of another key is "
            f"there, remove it with adb uninstall {PACKAGE}"
        )


@contextmanager
def _pushed(device: Device, bundle: Bundle, name: str, say: Say) -> Iterator[None]:
    """The bundle in the app's folder; it and what came of it are gone afterwards."""
    files = f"{FOLDER}/bundles/{name}.zip {FOLDER}/records/{name}*"
    made = device.shell(f"mkdir -p {FOLDER}/bundles {FOLDER}/records")
    if made.code:
        raise BadInput(f"{device.name} does not let us write to {FOLDER}: {made.reason}")
    try:
        with tempfile.TemporaryDirectory() as work:
            packed = Path(work) / f"{name}.zip"
            pack(bundle.root, packed)
            say(f"{device.name}: sending {bundle.manifest.name}")
            device.push(packed, f"{FOLDER}/bundles/{packed.name}")
        yield
    finally:
        with suppress(DeviceLost):
            device.shell(f"rm -f {files}")


def _start(device: Device, words: list[str]) -> None:
    # -S: in a process of its own, so that memory and the first step are a cold start's.
    done = device.shell(f"am start -S -W -n {shlex.join(words)}")
    if done.code or "Error" in done.out + done.err:
        said = [line for line in (done.out + done.err).splitlines() if "Error" in line]
        reason = said[-1].strip() if said else done.reason
        raise CheckFailed(
            f"{device.name} does not start the app's benchmark: {reason}; install the app of this "
            "version with --apk"
        )


def _wait(device: Device, name: str, patience: float, since: str, say: Say) -> None:
    """Until the app has written its record.

    Raises:
        BadInput: the app refuses; its sentence.
        CheckFailed: it computes wrong numbers, ended without a record or did not end in time.
    """
    look = LOOK.format(folder=FOLDER, package=PACKAGE, name=name)
    end, last = time.monotonic() + patience, ""
    while time.monotonic() < end:
        state, _, rest = device.shell(look).out.strip().partition("\n")
        if state == "done":
            return
        if state == "refused":
            raise BadInput(f"{device.name}: {rest}")
        if state == "failed":
            raise CheckFailed(f"{device.name}: {rest}")
        if state == "gone":
            raise CheckFailed(
                f"the app ended on {device.name} without a record; {_log(device, since)}"
            )
        if rest != last:
            last = rest
            say(f"{device.name}: {rest}")
        time.sleep(POLL)
    raise CheckFailed(
        f"the app did not end on {device.name} within {patience:.0f} s "
        f"(it was {last or 'starting'})"
    )


def _log(device: Device, since: str) -> str:
    """The end of what the system wrote down about a crash."""
    done = device.shell(f"logcat -d -v brief -T {shlex.quote(since)} {CRASHES}")
    said = [line for line in done.out.splitlines() if line and not line.startswith("-----")]
    return "its log: " + " | ".join(said[-LINES:]) if said else "the log says nothing of it"


def _record(device: Device, name: str, bundle: Bundle, options: AppOptions) -> Report:
    """What the app wrote, which must be of what was asked for."""
    with tempfile.TemporaryDirectory() as work:
        local = Path(work) / "record.json"
        device.pull(f"{FOLDER}/records/{name}", local)
        try:
            report = Report.model_validate_json(local.read_bytes())
        except ValidationError:
            raise CheckFailed(
                f"the app on {device.name} wrote no record that this version reads; "
                "install its own with --apk"
            ) from None
    (measured,) = report.measurements
    run, subject, method = options.run, measured.subject, measured.method
    delegates = {file.delegate or "none" for file in subject.files}
    asked = (sha256_of(bundle.root / MANIFEST), run.engine, run.threads)
    if (subject.manifest_sha256, subject.backend, method.threads) != asked or (
        run.delegate is not None and delegates != {run.delegate}
    ):
        raise CheckFailed(f"the app on {device.name} measured something else than it was asked for")
    machine = report.machine.model_copy(update={"device": device.name})
    return report.model_copy(update={"machine": machine})


def _sha256(device: Device, path: str) -> str | None:
    words = device.shell(f"sha256sum {shlex.quote(path)}").out.split()
    return words[0] if words else None
