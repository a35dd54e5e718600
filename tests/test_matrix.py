"""What is supported: the committed record, and the same tried again."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from movinet_edge.benchmarks import matrix
from movinet_edge.benchmarks.matrix import KINDS, SIZES, cells, checkpoint_of, combinations, refusal
from movinet_edge.benchmarks.matrix_figures import matrices
from movinet_edge.export.graph_files import ExportOptions
from movinet_edge.export.precision import PRECISIONS

MODELS = [f"movinet-{size}-{kind}" for size in SIZES for kind in KINDS]
# What a refusal says to do instead.
ALTERNATIVE = re.compile(r"take |leave out |export it with ")


@pytest.mark.parametrize("model", MODELS)
def test_the_record_says_what_is_refused_today(model: str) -> None:
    (found,) = (m for m in matrices() if m.cells[0].model == model)
    combined = [(profile, form) for profile, form in combinations()]
    assert len(found.cells) == len(combined) * len(matrix.FORMATS) * len(PRECISIONS)
    checkpoint = checkpoint_of(model)
    for cell in found.cells:
        options = ExportOptions(
            form=cell.form, profile=cell.profile, calibrate=Path("videos"), clip_frames=None
        )
        assert refusal(checkpoint, options, cell.format, cell.precision) == cell.refused
        if cell.refused is not None:
            assert ALTERNATIVE.search(cell.refused), cell.refused
        else:
            assert cell.holds
            assert cell.engines
            if cell.format == "tflite" and cell.form != "clip":
                assert (cell.partitions, cell.transposes) == (1, 0)


@pytest.mark.slow
@pytest.mark.parametrize(("profile", "form"), combinations())
@pytest.mark.parametrize("model", MODELS)
def test_every_combination_is_verified_or_refused(
    model: str, profile: str, form: str, motion: Path
) -> None:
    for cell in cells(checkpoint_of(model), profile, form, motion / "train"):  # type: ignore[arg-type]
        assert cell.holds or (cell.refused is not None and ALTERNATIVE.search(cell.refused)), cell
