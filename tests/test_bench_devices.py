"""The benchmark on devices: a real adbd and a real sshd, the native runner, the golden stream."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest

from movinet_edge.benchmarks.adb import AdbDevice
from movinet_edge.benchmarks.device import Device
from movinet_edge.benchmarks.job import COLD_PROCESSES
from movinet_edge.benchmarks.native import PROGRAM, NativeOptions
from movinet_edge.benchmarks.record import Report
from movinet_edge.benchmarks.remote import RemoteOptions, bench_remote
from movinet_edge.benchmarks.ssh import SshDevice
from movinet_edge.bundle import Bundle
from movinet_edge.errors import BadInput
from tests.commands import COMMAND, Command, Refused
from tests.debian import script
from tests.device_lab import SERIALS, Room, until, workspaces

STEPS = 4
LOOK = "for process in /proc/[0-9]*; do readlink $process/exe; done; true"


def left_on(device: Device) -> list[str]:
    return workspaces(device.shell(f"ls {device.home}").out.split())


def test_two_phones_at_once(
    android: Room, call: Command, small_bundle: Path, program: Path, tmp_path: Path
) -> None:
    words = ("--engine", "onnxruntime", "--steps", STEPS, "--program", program)
    where = ("--device", "adb:all", "--json", tmp_path / "r.json")
    code, out, err = call("bench", small_bundle, *where, *words)
    assert code == 0, err
    for serial in SERIALS:
        text = (tmp_path / f"r-{serial.replace(':', '-')}.json").read_text()
        report = Report.model_validate_json(text)
        (measured,) = report.measurements
        assert (measured.method.steps, measured.method.interleaved) == (STEPS, False)
        assert measured.step_ms.p50 > 0
        assert report.machine.device == f"adb:{serial}"
        assert report.machine.model == "Phone of the lab"
        assert f"adb:{serial}" in out
        assert left_on(AdbDevice(serial)) == []


def test_a_board(linux: Room, call: Command, small_bundle: Path, tmp_path: Path) -> None:
    """The runner is built for it, as it has our architecture."""
    if shutil.which("c++") is None:
        pytest.skip("no native runner: nothing compiles C++ here")
    words = ("--engine", "onnxruntime", "--minutes", 0.02, "--threads", 2, "--mode", "paced")
    where = ("--device", "ssh:board", "--json", tmp_path / "r.json")
    code, _, err = call("bench", small_bundle, *where, *words)
    assert code == 0, err
    report = Report.model_validate_json((tmp_path / "r.json").read_text())
    assert report.machine.device == "ssh:board"
    (measured,) = report.measurements
    assert (measured.method.threads, measured.method.mode) == (2, "paced")
    assert measured.sustained is not None
    assert measured.sustained.seconds == pytest.approx(1.2, abs=0.5)
    assert measured.sustained.throttled > 0
    assert left_on(SshDevice("board")) == []


def test_a_board_with_python(
    linux: Room, call: Command, small_bundle: Path, tmp_path: Path
) -> None:
    words = ("--runner", "python", "--python", sys.executable, "--engine", "onnxruntime")
    where = ("--device", "ssh:board", "--json", tmp_path / "r.json", "--steps", STEPS)
    code, _, err = call("bench", small_bundle, *where, *words)
    assert code == 0, err
    report = Report.model_validate_json((tmp_path / "r.json").read_text())
    assert report.machine.device == "ssh:board"
    assert report.tools["numpy"] == np.__version__
    (measured,) = report.measurements
    assert measured.subject.label == "python onnxruntime"
    assert (measured.subject.backend, measured.method.steps) == ("onnxruntime", STEPS)
    assert 0 < measured.engine_ms.p50 <= measured.step_ms.p50
    assert measured.alone.load_ms > 0
    assert left_on(SshDevice("board")) == []


def test_cold_starts(
    linux: Room, call: Command, small_bundle: Path, program: Path, tmp_path: Path
) -> None:
    words = ("--engine", "onnxruntime", "--mode", "cold", "--program", program)
    where = ("--device", "ssh:board", "--json", tmp_path / "r.json")
    code, _, err = call("bench", small_bundle, *where, *words)
    assert code == 0, err
    report = Report.model_validate_json((tmp_path / "r.json").read_text())
    cold = report.measurements[0].cold
    assert cold is not None
    assert cold.processes == COLD_PROCESSES
    assert 0 < cold.load_ms.min <= cold.load_ms.p90
    assert cold.first_step_ms.min < cold.start_ms.min


def test_a_board_whose_python_is_of_no_use(
    linux: Room, refused: Refused, small_bundle: Path, tmp_path: Path
) -> None:
    where = ("--device", "ssh:board", "--runner", "python", "--engine", "onnxruntime")
    bare, old = tmp_path / "bare", tmp_path / "old"
    script(bare, f'#!/bin/sh\nexec {sys.executable} -I -S "$@"\n')
    script(old, "#!/bin/sh\necho 3.9\n")
    for python, says in {
        "nothing3": "ssh:board has no nothing3 that runs; name one with --python",
        str(old): "is Python 3.9, older than 3.11; name another with --python",
        str(bare): "lacks numpy, pydantic, onnxruntime; pip install numpy pydantic onnxruntime",
    }.items():
        said = refused("bench", small_bundle, *where, "--python", python)
        assert says in said
        assert said.endswith("or leave out --runner python")


def test_python_that_fails_there(
    linux: Room, refused: Refused, small_bundle: Path, tmp_path: Path
) -> None:
    """Its last line says why."""
    python = tmp_path / "python"
    script(python, f'#!/bin/sh\nulimit -f 0; exec {sys.executable} "$@"\n')
    where = ("--device", "ssh:board", "--runner", "python", "--engine", "onnxruntime")
    said = refused("bench", small_bundle, *where, "--python", python)
    assert said.startswith("onnxruntime does not run on ssh:board: ")
    assert "too large" in said
    assert left_on(SshDevice("board")) == []


def test_accelerators_that_are_not_there(
    android: Room, refused: Refused, small_bundle: Path, program: Path
) -> None:
    words = ("--engine", "onnxruntime", "--program", program)
    said = refused(
        *("bench", small_bundle, "--device", f"adb:{SERIALS[0]}", "--delegate", "nnapi", *words)
    )
    assert "nnapi" in said.lower()
    assert left_on(AdbDevice(SERIALS[0])) == []


@pytest.mark.parametrize("android", [4], indirect=True)
def test_a_phone_without_room(
    android: Room, refused: Refused, small_bundle: Path, program: Path
) -> None:
    words = ("--engine", "onnxruntime", "--program", program)
    said = refused("bench", small_bundle, "--device", f"adb:{SERIALS[0]}", *words)
    assert f"adb:{SERIALS[0]} has no room for" in said
    assert left_on(AdbDevice(SERIALS[0])) == []


def test_a_phone_that_is_pulled_off(
    android: Room, small_bundle: Path, program: Path, tmp_path: Path
) -> None:
    """Tried once more, then reported."""
    native = NativeOptions(engine="onnxruntime", steps=10**6)
    said: list[str] = []

    def say(text: str) -> None:
        said.append(text)
        if text.endswith("running"):
            threading.Timer(0.5, android.kill).start()

    device = AdbDevice(SERIALS[0])
    with pytest.raises(Exception, match="was disconnected"):
        bench_remote(device, Bundle(small_bundle), RemoteOptions(native, program=program), say)
    assert sum("once more" in text for text in said) == 1


def test_a_board_that_is_pulled_off(linux: Room, small_bundle: Path, program: Path) -> None:
    """The second time, nothing answers there any more."""
    native = NativeOptions(engine="onnxruntime", steps=10**6)
    said: list[str] = []

    def say(text: str) -> None:
        said.append(text)
        if text.endswith("running"):
            threading.Timer(0.5, linux.cut).start()

    options = RemoteOptions(native, program=program)
    with pytest.raises(BadInput, match="ssh:board cannot be reached: nothing listens there"):
        bench_remote(SshDevice("board"), Bundle(small_bundle), options, say)
    assert [text for text in said if "was disconnected" in text and "once more" in text]


def listen_to_ctrl_c() -> None:
    """A shell without a terminal lets what it starts in the background ignore it."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def test_ctrl_c(android: Room, small_bundle: Path, program: Path, tmp_path: Path) -> None:
    """As a terminal sends it: to the command and the adb that it waits for."""
    words = ("--engine", "onnxruntime", "--steps", str(10**6), "--program", str(program))
    where = ("--device", f"adb:{SERIALS[0]}", "--json", str(tmp_path / "r.json"))
    command = [*COMMAND, "bench", str(small_bundle), *where, *words]
    device = AdbDevice(SERIALS[0])
    with subprocess.Popen(
        command,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        preexec_fn=listen_to_ctrl_c,
    ) as running:
        assert running.stderr is not None
        assert any(line.rstrip().endswith("running") for line in running.stderr)
        until(lambda: PROGRAM in device.shell(LOOK).out)
        os.killpg(running.pid, signal.SIGINT)
        said = running.stderr.read()
    assert running.returncode == 130, said
    assert "Traceback" not in said
    assert left_on(device) == []
    assert PROGRAM not in device.shell(LOOK).out
    assert not (tmp_path / "r.json").exists()


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (("--device", "phone"), "unknown device 'phone'; --device takes host, cuda, adb:SERIAL"),
        (("--delegate", "nnapi"), "--delegate is for devices"),
        (("--device", "ssh:x", "--engine", "torch"), "devices run litert or onnxruntime"),
        (("--device", "ssh:x", "--threads", 1, "--threads", 2), "one of each"),
        (("--device", "ssh:x", "--library", "nothing.so"), "there is no file nothing.so"),
        (("--device", "ssh:x", "--minutes", 0), "--minutes"),
        (("--device", "ssh:x", "--python", "python3"), "--python is for --runner python"),
        (("--device", "ssh:x", "--runner", "python", "--program", "x"), "is for --runner native"),
        (("--runner", "python"), "--runner is for devices"),
        (
            ("--device", "ssh:x", "--runner", "python", "--delegate", "nnapi"),
            "--runner python has no delegate nnapi; leave it out",
        ),
        (("--device", "ssh:x", "--against", "a.tflite"), "leave out --against"),
    ],
)
def test_wrong_use(
    refused: Refused, small_bundle: Path, words: tuple[object, ...], says: str
) -> None:
    assert says in refused("bench", small_bundle, *words)
