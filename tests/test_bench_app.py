"""The benchmark inside the Android app: a real adb and adbd, the app's core on the JVM.

Only Android's own ``pm``, ``am`` and ``logcat`` have stand-ins; the one of ``am`` starts what the
app would start.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from movinet_edge.benchmarks.adb import AdbDevice
from movinet_edge.benchmarks.app import FOLDER, PACKAGE
from movinet_edge.benchmarks.native import NativeOptions
from movinet_edge.benchmarks.record import Report
from tests.commands import Command, Refused
from tests.debian import script
from tests.device_lab import SERIALS, Room

PROJECT = Path(__file__).parents[1] / "android_demo"
CORE = PROJECT / "core/target"
NATIVES = PROJECT / "tflite-jvm/target/native/lib"
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
[ -e /device/hangs ] && program=(/bin/sh -c "sleep 600; true")
shift 5
(exec -a {PACKAGE} "${{program[@]}}" "$@") >/device/said 2>&1 </dev/null &
disown
echo "Status: ok"
"""
LOGCAT = """#!/bin/sh
[ -e /device/crashes ] || exit 0
echo "--------- beginning of crash"
echo "E/AndroidRuntime( 4242): FATAL EXCEPTION: benchmark"
echo "E/AndroidRuntime( 4242): java.lang.OutOfMemoryError: no more"
"""


def java() -> list[str]:
    """What the app's process is here."""
    words = ("-XX:TieredStopAtLevel=1", "-XX:+UseSerialGC", f"-Djava.library.path={NATIVES}")
    listed = (CORE / "test-class-path").read_text().split(os.pathsep)
    # Of TensorFlow Lite the classes that have natives here.
    jars = [jar for jar in listed if "tflite/target" not in jar]
    path = os.pathsep.join([str(CORE / "classes"), str(CORE / "test-classes"), *jars])
    return [shutil.which("java") or "java", *words, "-cp", path, "io.movinetedge.StandInKt", FOLDER]


@pytest.fixture(scope="session")
def core() -> None:
    """The core and its tests, compiled."""
    if shutil.which("mvn") is None:
        pytest.skip("Maven is not installed")
    words = ["mvn", "-B", "-ntp", "-pl", "core", "-am", "package", "-DskipTests"]
    done = subprocess.run(words, cwd=PROJECT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout[-4000:]


@pytest.fixture
def phone(core: None, android: Room) -> Iterator[AdbDevice]:
    shims = android.folder / "shims"
    words = " ".join(java())
    for name, text in {"pm": PM, "am": AM.replace("JAVA", words), "logcat": LOGCAT}.items():
        script(shims / name, text)
    device = AdbDevice(SERIALS[0])
    for name in ("pm", "am", "logcat"):
        device.push(shims / name, f"/device/{name}")
        device.shell(f"chmod 755 /device/{name}")
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
WHERE = ("--device", DEVICE, "--app", "--engine", "onnxruntime")


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
