"""The benchmark inside the Android app: a real adb and adbd, the app's core on the JVM.

Only Android's own ``pm``, ``am`` and ``logcat`` have stand-ins; the one of ``am`` starts what the
app would start.
"""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from android_demo.overhead import PROJECT, stand_in
from movinet_edge.benchmarks import app
from movinet_edge.benchmarks.adb import AdbDevice
from movinet_edge.benchmarks.app import FOLDER, PACKAGE
from movinet_edge.benchmarks.native import NativeOptions
from movinet_edge.benchmarks.record import Report
from movinet_edge.files import sha256_of, write_npz
from tests.bundles import edited
from tests.commands import Command, Refused
from tests.conftest import BundleFactory
from tests.debian import script
from tests.device_lab import SERIALS, Room

DEVICE = f"adb:{SERIALS[0]}"

# Each is what the real one prints. A file on the device says which trouble is wanted.
PM = f"""#!/bin/sh
case "$1" in
  path) [ -e /device/base.apk ] && echo package:/device/base.apk ;;
  install)
    if [ -e /device/foreign ]; then
      echo "Failure [INSTALL_FAILED_UPDATE_INCOMPATIBLE: signatures do not match]"; exit 1
    fi
    cp "$3" /device/base.apk && echo Success ;;
  uninstall) [ "$2" = {PACKAGE} ] && rm /device/base.apk && echo Success ;;
esac
"""
AM = f"""#!/bin/bash
case "$1" in
  force-stop)
    while own=$(pidof {PACKAGE}); do kill -9 $own; sleep 0.1; done
    exit 0 ;;
  start) [ "$2 $3 $4 $5" = "-S -W -n {PACKAGE}/.BenchmarkActivity" ] || exit 9 ;;
esac
if [ -e /device/older ]; then
  echo "Error type 3"; echo "Error: Activity class {{$5}} does not exist."; exit 1
fi
program=(JAVA)
[ -e /device/crashes ] && program=(/bin/sh -c "exit 1")
[ -e /device/ends ] && program=(/bin/sh -c "exit 0")
[ -e /device/hangs ] && program=(/bin/sh -c "sleep 600; true")
[ -e /device/record ] && program=(/bin/bash /device/writer)
shift 5
(exec -a {PACKAGE} "${{program[@]}}" "$@") >/device/said 2>&1 </dev/null &
disown
echo "Status: ok"
"""
# Whatever it is asked for, its record is the one that lies there already.
WRITER = f"""
while [ "$2" != out ]; do shift 3; done
cd {FOLDER}/records && cp /device/record "$3.unfinished" && mv "$3.unfinished" "$3"
"""
LOGCAT = """#!/bin/sh
[ -e /device/crashes ] || exit 0
echo "--------- beginning of crash"
echo "E/AndroidRuntime( 4242): FATAL EXCEPTION: benchmark"
echo "E/AndroidRuntime( 4242): java.lang.OutOfMemoryError: no more"
"""


def java() -> list[str]:
    """What the app's process is here."""
    return stand_in(FOLDER, "-XX:TieredStopAtLevel=1", "-XX:+UseSerialGC")


@pytest.fixture(scope="session")
def core() -> None:
    """The core and its tests, compiled."""
    if shutil.which("mvn") is None:
        pytest.skip("Maven is not installed")
    words = ["mvn", "-B", "-ntp", "-pl", "core", "-am", "package", "-DskipTests"]
    done = subprocess.run(words, cwd=PROJECT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout[-4000:]


@pytest.fixture
def any_phone(core: None, android: Room) -> AdbDevice:
    """A device with what the app needs; it may be lost."""
    shims = android.folder / "shims"
    words = " ".join(java())
    texts = {"pm": PM, "am": AM.replace("JAVA", words), "logcat": LOGCAT, "writer": WRITER}
    device = AdbDevice(SERIALS[0])
    for name, text in texts.items():
        script(shims / name, text)
        device.push(shims / name, f"/device/{name}")
        device.shell(f"chmod 755 /device/{name}")
    return device


@pytest.fixture
def phone(any_phone: AdbDevice) -> Iterator[AdbDevice]:
    """The same, on which nothing is left in the end."""
    device = any_phone
    yield device
    left = device.shell(f"ls {FOLDER}/bundles {FOLDER}/records").out
    assert "movinet-edge" not in left, left
    assert device.shell(f"pidof {PACKAGE}").out.strip() == ""


@pytest.fixture
def apk(tmp_path: Path) -> Path:
    """Nothing on the device looks inside it."""
    path = tmp_path / "app.apk"
    path.write_bytes(b"an app")
    return path


pytestmark = [pytest.mark.android, pytest.mark.timeout(1800)]
APP = ("--device", DEVICE, "--app")
WHERE = (*APP, "--engine", "onnxruntime")


def test_it_runs_and_leaves_its_record(
    phone: AdbDevice, call: Command, small_bundle: Path, apk: Path, tmp_path: Path
) -> None:
    words = (*WHERE, "--apk", apk, "--steps", 5, "--threads", 2, "--json", tmp_path / "r.json")
    code, _, err = call("bench", small_bundle, *words)
    assert code == 0, err
    assert f"{DEVICE}: installing app.apk" in err
    assert any(f"{DEVICE}: {phase}" in err for phase in ("loading", "checking", "timing"))
    report = Report.model_validate_json((tmp_path / "r.json").read_text())
    assert report.machine.device == DEVICE
    (measured,) = report.measurements
    assert measured.subject.label == "app onnxruntime"
    assert (measured.method.steps, measured.method.threads) == (5, 2)
    assert 0 < measured.engine_ms.p50 <= measured.step_ms.p50
    # the same app again: it stays as it is, until it is to go
    code, _, err = call("bench", small_bundle, *words, "--clean")
    assert code == 0, err
    assert "installing" not in err
    assert phone.shell(f"pm path {PACKAGE}").out == ""


def test_the_engine_that_the_app_always_has(
    phone: AdbDevice, call: Command, bundles: BundleFactory, apk: Path, tmp_path: Path
) -> None:
    bundle = bundles("movinet-a0-stream", side=64, formats=("tflite",))
    words = (*APP, "--apk", apk, "--engine", "tflite", "--steps", 5)
    code, _, err = call("bench", bundle, *words, "--json", tmp_path / "r.json")
    assert code == 0, err
    (measured,) = Report.model_validate_json((tmp_path / "r.json").read_text()).measurements
    assert measured.subject.label == "app tflite"
    assert measured.subject.engine == "TensorFlow Lite"
    assert {file.delegate for file in measured.subject.files} == {"xnnpack"}


@pytest.mark.parametrize(
    ("words", "says"),
    [
        ((), "the app is not on"),
        (("--apk", "app.apk", "--delegate", "nnapi"), "has no delegate nnapi here"),
        (("--apk", "app.apk", "--precision", "int8"), "has no int8 onnx file"),
    ],
)
def test_what_it_refuses(
    phone: AdbDevice,
    refused: Refused,
    small_bundle: Path,
    apk: Path,
    monkeypatch: pytest.MonkeyPatch,
    words: tuple[str, ...],
    says: str,
) -> None:
    monkeypatch.chdir(apk.parent)
    assert says in refused("bench", small_bundle, *WHERE, *words)


@pytest.mark.parametrize(
    ("trouble", "code", "says"),
    [
        ("foreign", 2, "does not take app.apk: Failure [INSTALL_FAILED_UPDATE_INCOMPATIBLE"),
        ("older", 1, "does not start the app's benchmark: Error: Activity class"),
        ("crashes", 1, "without a record; its log: E/AndroidRuntime( 4242): FATAL EXCEPTION"),
        ("ends", 1, "without a record; the log says nothing of it"),
        ("hangs", 1, "the app did not end on"),
    ],
)
def test_what_goes_wrong(
    phone: AdbDevice,
    call: Command,
    small_bundle: Path,
    apk: Path,
    monkeypatch: pytest.MonkeyPatch,
    trouble: str,
    code: int,
    says: str,
) -> None:
    phone.shell(f"touch /device/{trouble}")
    monkeypatch.setattr(NativeOptions, "patience", lambda _: 3.0)
    left, _, err = call("bench", small_bundle, *WHERE, "--apk", apk)
    said = err.strip().splitlines()[-1]
    assert (left, says in said) == (code, True), err
    assert "Traceback" not in err


def test_records_that_do_not_count(
    phone: AdbDevice, call: Command, small_bundle: Path, apk: Path, tmp_path: Path
) -> None:
    def bench(bundle: Path, *words: object, engine: str = "onnxruntime") -> tuple[int, str]:
        where = (*APP, "--engine", engine, "--apk", apk, "--steps", 3)
        code, _, err = call("bench", bundle, *where, *words)
        return code, err.strip().splitlines()[-1]

    code, said = bench(small_bundle, "--json", tmp_path / "record")
    assert code == 0, said
    phone.push(tmp_path / "record", "/device/record")
    # It counts for what it is of, and for nothing else.
    assert bench(small_bundle, "--delegate", "none")[0] == 0

    def rename(manifest: dict[str, Any]) -> None:
        manifest["name"] = "another"

    others = (
        bench(edited(small_bundle, tmp_path / "another", rename)),
        bench(small_bundle, "--threads", 2),
        bench(small_bundle, engine="tflite"),
        bench(small_bundle, "--delegate", "xnnpack"),
    )
    for code, said in others:
        assert (code, "measured something else than it was asked for" in said) == (1, True), said
    for text in ("", "{}", "[1", (tmp_path / "record").read_text().replace("step_ms", "stepMs")):
        (tmp_path / "other").write_text(text)
        phone.push(tmp_path / "other", "/device/record")
        code, said = bench(small_bundle)
        assert (code, "wrote no record that this version reads" in said) == (1, True), said


def test_wrong_numbers(
    phone: AdbDevice, call: Command, small_bundle: Path, apk: Path, tmp_path: Path
) -> None:
    """What the app says of them; the bundle's golden answers are not its model's."""
    with np.load(small_bundle / "golden.npz") as golden:
        arrays = dict(golden)
    changed = tmp_path / "golden.npz"
    write_npz(changed, **arrays | {"logits": -arrays["logits"]})

    def vouch(manifest: dict[str, Any]) -> None:
        manifest["golden"]["sha256"] = sha256_of(changed)

    bundle = edited(small_bundle, tmp_path / "bundle", vouch)
    shutil.copyfile(changed, bundle / "golden.npz")
    code, _, err = call("bench", bundle, *WHERE, "--apk", apk)
    assert (code, "onnxruntime fp32 computes wrong numbers" in err.splitlines()[-1]) == (1, True), (
        err
    )


@pytest.mark.parametrize(
    ("place", "kilobytes", "says"),
    [
        ("/sdcard", 64, "has no room for movinet-edge-"),
        (f"{FOLDER}/records", 4, "there is no way to write to"),
    ],
    ids=["for the bundle", "for what the app writes"],
)
def test_no_room(
    phone: AdbDevice,
    refused: Refused,
    small_bundle: Path,
    apk: Path,
    place: str,
    kilobytes: int,
    says: str,
) -> None:
    full = f"mkdir -p {place} && mount -t tmpfs -o size={kilobytes}k tmpfs {place}"
    assert phone.shell(full).code == 0
    assert says in refused("bench", small_bundle, *WHERE, "--apk", apk)


def test_a_device_that_is_lost(
    any_phone: AdbDevice,
    android: Room,
    call: Command,
    small_bundle: Path,
    apk: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    any_phone.shell("touch /device/hangs")
    wait = app._wait

    def cut(*arguments: Any) -> None:
        android.cut()
        wait(*arguments)

    monkeypatch.setattr(app, "_wait", cut)
    code, _, err = call("bench", small_bundle, *WHERE, "--apk", apk)
    assert (code, f"{DEVICE} was disconnected" in err.splitlines()[-1]) == (1, True), err


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (("--app",), "--app is for Android; give --device adb:SERIAL"),
        (("--device", "ssh:x", "--app"), "--app is for Android; give --device adb:SERIAL"),
        (("--apk", "app.apk"), "--apk and --clean are for --app"),
        (("--device", DEVICE, "--app", "--runner", "native"), "--runner is not for --app"),
        (("--device", DEVICE, "--app", "--mode", "cold"), "leave out --mode cold"),
        (("--device", DEVICE, "--app", "--engine", "litert"), "runs tflite or onnxruntime"),
        (("--device", DEVICE, "--app", "--threads", 1, "--threads", 2), "give one of each"),
        (("--device", DEVICE, "--app", "--apk", "nothing.apk"), "there is no file nothing.apk"),
    ],
)
def test_wrong_use(
    refused: Refused, small_bundle: Path, words: tuple[object, ...], says: str
) -> None:
    assert says in refused("bench", small_bundle, *words)
