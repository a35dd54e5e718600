"""Tables of what was exported and verified, and of what is refused, from the committed records."""

from __future__ import annotations

from collections.abc import Sequence

from movinet_edge.benchmarks.matrix import FORMATS, RESULTS, Cell, Matrix
from movinet_edge.bundle import FormatName, Precision
from movinet_edge.export.precision import PRECISIONS

NAMES: dict[FormatName, str] = {"tflite": "TFLite", "onnx": "ONNX"}


def matrices() -> list[Matrix]:
    """The committed records, by model."""
    found = [
        Matrix.model_validate_json(path.read_text("utf-8"))
        for path in sorted(RESULTS.glob("[!.]*.json"))
    ]
    if len({(matrix.side, str(matrix.tools)) for matrix in found}) > 1:
        raise ValueError("the matrices were made in different ways; make them again")
    for cell in (cell for matrix in found for cell in matrix.cells):
        if cell.holds is False:
            raise ValueError(f"{cell.model} {cell.profile} {cell.form} {cell.format} fails")
    return found


def support_table(found: Sequence[Matrix]) -> str:
    """A row per profile and form, a column per precision: the formats that verify."""
    cells = [cell for matrix in found for cell in matrix.cells if cell.holds]
    lines = _heads("profile", "form")
    for profile, form in dict.fromkeys((c.profile, c.form) for c in cells):
        row = [
            _formats([c for c in cells if (c.profile, c.form, c.precision) == (profile, form, p)])
            for p in PRECISIONS
        ]
        lines.append(f"| `{profile}` | {form} | {' | '.join(row)} |")
    files = len(cells)
    refused = sum(cell.refused is not None for matrix in found for cell in matrix.cells)
    models = ", ".join(matrix.cells[0].model for matrix in found)
    return "\n".join(
        [
            *lines,
            "",
            f"{files} files of {models} (untrained weights, {found[0].side} px), each verified on "
            f"every engine for its format; {refused} "
            "combinations are refused with the reason and the nearest alternative.",
        ]
    )


def errors_table(found: Sequence[Matrix]) -> str:
    """A row per profile, form and format: the largest error over models and engines."""
    lines = _heads("profile", "form", "format")
    cells = [cell for matrix in found for cell in matrix.cells if cell.holds]
    for profile, form, fmt in dict.fromkeys((c.profile, c.form, c.format) for c in cells):
        row = [
            _error([c for c in cells if (c.profile, c.form, c.format) == (profile, form, fmt)], p)
            for p in PRECISIONS
        ]
        lines.append(f"| `{profile}` | {form} | {NAMES[fmt]} | {' | '.join(row)} |")
    return "\n".join(lines)


def _heads(*names: str) -> list[str]:
    columns = [*names, *PRECISIONS]
    return [f"| {' | '.join(columns)} |", "|---" * len(columns) + "|"]


def _formats(cells: Sequence[Cell]) -> str:
    held = {cell.format for cell in cells}
    return ", ".join(NAMES[fmt] for fmt in FORMATS if fmt in held) or "–"


def _error(cells: Sequence[Cell], precision: Precision) -> str:
    errors = [e.max_error for c in cells if c.precision == precision for e in c.engines]
    return f"{max(errors):.0e}" if errors else "–"
