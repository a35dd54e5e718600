"""``movinet-edge devices``: where a bundle can be measured."""

from __future__ import annotations

import shutil


def devices() -> None:
    """List this computer, its GPU, and the Android devices that adb sees."""
    from rich.box import SIMPLE_HEAD
    from rich.table import Table

    from movinet_edge.benchmarks.devices import seen
    from movinet_edge.cli.console import out

    table = Table("device", "what", "state", box=SIMPLE_HEAD)
    for found in seen():
        table.add_row(found.name, found.what, found.state)
    out().print(table)
    if shutil.which("adb") is None:
        out().print("note: adb is not installed, so no Android device can be seen", highlight=False)
    out().print("ssh:USER@HOST reaches any board that ssh does", highlight=False)
