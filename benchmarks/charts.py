"""Charts as SVG files."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any


@contextmanager
def chart(path: Path, inches: tuple[float, float]) -> Iterator[Any]:
    """Axes that become an SVG, the same bytes for the same figures."""
    import matplotlib

    matplotlib.use("svg")
    import matplotlib.pyplot as plt

    matplotlib.rcParams["svg.hashsalt"] = "movinet-edge"
    figure, axes = plt.subplots(figsize=inches, layout="constrained")
    yield axes
    axes.spines[["top", "right"]].set_visible(False)
    figure.savefig(path, metadata={"Date": None})
    plt.close(figure)
