"""A phone and a board for ARM64: the lab's daemons over an emulated user-space."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.arm64_machine import Machine
from tests.device_lab import Lab, Room, board, first_on_path, phone


@pytest.fixture(scope="session")
def emulation(lab: Lab, machine: Machine) -> Machine:
    """A machine whose programs the kernel runs in a room, as nothing changes outside of it."""
    programs = ["mount", "-t", "binfmt_misc", "binfmt_misc", "/proc/sys/fs/binfmt_misc"]
    tried = subprocess.run(["unshare", "-U", "-r", "-m", *programs], capture_output=True)
    if tried.returncode:
        pytest.skip("no ARM64 devices: a room of ours has no binfmt_misc, as from Linux 6.7 on")
    return machine


@pytest.fixture
def arm64_android(
    lab: Lab, emulation: Machine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Room]:
    """A phone for ARM64."""
    with phone(lab, tmp_path / "phone", machine=emulation) as found:
        first_on_path(tmp_path / "phone", monkeypatch)
        yield found


@pytest.fixture
def arm64_linux(
    lab: Lab, emulation: Machine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Room]:
    """A board for ARM64 that ssh calls ``board``."""
    with board(lab, tmp_path / "board", emulation) as found:
        first_on_path(tmp_path / "board", monkeypatch)
        yield found
