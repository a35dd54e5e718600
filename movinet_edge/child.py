"""Run one of our modules in a process of its own."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

ROOT = str(Path(__file__).parent.parent)


def run_module(
    module: str,
    *arguments: str,
    environment: dict[str, str] | None = None,
    timeout: float | None = None,
) -> subprocess.CompletedProcess[str]:
    """``python -m module arguments``, also where the project is a bare clone.

    Raises:
        subprocess.TimeoutExpired: after `timeout` seconds.
    """
    paths = [ROOT, *filter(None, [os.environ.get("PYTHONPATH")])]
    return subprocess.run(
        # -P: a file in the present directory must not pass for a module.
        [sys.executable, "-P", "-m", module, *arguments],
        env={**os.environ, **(environment or {}), "PYTHONPATH": os.pathsep.join(paths)},
        capture_output=True,
        text=True,
        errors="replace",
        timeout=timeout,
        check=False,
    )
