"""File systems of a given size, for tests of full and read-only ones."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

Mount = Callable[[str], Path]


@pytest.fixture
def mounted(tmp_path: Path) -> Iterator[Mount]:
    """``mounted("size=64k")``: a file system with these options, for as long as the test runs."""
    folder = tmp_path / "mounted"
    folder.mkdir()
    if os.geteuid() != 0 or shutil.which("mount") is None:
        pytest.skip("mounting needs root")

    def mount(options: str) -> Path:
        command = ["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(folder)]
        result = subprocess.run(command, capture_output=True, text=True)
        if result.returncode:
            pytest.skip(f"mounting is not allowed here: {result.stderr.strip()}")
        return folder

    yield mount
    if os.path.ismount(folder):  # fails where a command left a file open
        subprocess.run(["umount", str(folder)], check=True)
