"""A verification record as JSON, JUnit XML and a self-contained HTML page."""

from __future__ import annotations

import io
import re
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, Any
from xml.etree import ElementTree

import numpy as np

from movinet_edge.errors import BadInput
from movinet_edge.export.verify_record import NOT_FINITE, Check, StreamParity, VerifyRecord
from movinet_edge.files import write_text

if TYPE_CHECKING:
    from matplotlib.figure import Figure

TEMPLATE = "report.html.jinja"
# Readable on white and on black; the thickest line is drawn first, for engines often coincide.
LINES = (("#3b82f6", 4.0), ("#f59e0b", 2.6), ("#10b981", 1.6), ("#a855f7", 1.2))
LIMIT = "#ef4444"
INK = "#010203"  # stands for the page's own text colour
NO_ERROR = 1e-9  # what an exact answer is drawn as: a logarithmic axis has no zero
# Characters that XML 1.0 cannot hold, not even escaped.
NOT_XML = re.compile("[^\t\n\r\u0020-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


def write_json(record: VerifyRecord, path: Path) -> None:
    """Write the whole record.

    Raises:
        BadInput: the place cannot be written.
    """
    write_text(path, record.model_dump_json(indent=1) + "\n")


def write_junit(record: VerifyRecord, path: Path) -> None:
    """Write JUnit XML: a suite per kind of check and subject, a case per check.

    Raises:
        BadInput: the place cannot be written.
    """
    root = ElementTree.Element("testsuites", _counts(record.checks))
    root.set("name", f"movinet-edge verify {record.bundle}")
    ordered = sorted(record.checks, key=lambda c: (c.kind, c.subject))
    for (kind, subject), group in groupby(ordered, key=lambda c: (c.kind, c.subject)):
        checks = tuple(group)
        suite = ElementTree.SubElement(root, "testsuite", _counts(checks))
        suite.set("name", _xml_text(f"{kind} {subject}"))
        for check in checks:
            names = {"classname": _xml_text(f"{kind}.{subject}"), "name": _xml_text(check.name)}
            case = ElementTree.SubElement(suite, "testcase", names)
            if check.holds:
                ElementTree.SubElement(case, "system-out").text = _xml_text(check.detail)
            else:
                message = {"message": _xml_text(check.detail), "type": kind}
                ElementTree.SubElement(case, "failure", message).text = message["message"]
    ElementTree.indent(root)
    text = ElementTree.tostring(root, encoding="unicode")
    write_text(path, f'<?xml version="1.0" encoding="UTF-8"?>\n{text}\n')


def write_html(record: VerifyRecord, path: Path) -> None:
    """Write the report as one page that needs no network.

    Raises:
        BadInput: jinja2 or matplotlib is missing, or the place cannot be written.
    """
    check_html_tools()
    import jinja2

    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["figure"] = _figure
    page = environment.get_template(TEMPLATE).render(
        record=record,
        plots=[_plot(name, parities) for name, parities in _by_stream(record)],
        properties=_matrix(record.of_kind("property")),
        graph_checks=_matrix(record.of_kind("graph")),
    )
    write_text(path, page)


def check_html_tools() -> None:
    """Raise `BadInput` unless the packages that `write_html` needs are installed."""
    try:
        import jinja2  # noqa: F401
        import matplotlib  # noqa: F401
    except ImportError as error:
        raise BadInput(f"--html needs {error.name}; pip install 'movinet-edge[export]'") from None


def _counts(checks: tuple[Check, ...]) -> dict[str, str]:
    failures = sum(not check.holds for check in checks)
    return {"tests": str(len(checks)), "failures": str(failures), "errors": "0"}


def _xml_text(text: str) -> str:
    return NOT_XML.sub("\ufffd", text)


@dataclass(frozen=True)
class Strip:
    """Top-1 agreement over time: the steps to mark, as (step, kind)."""

    subject: str
    steps: int
    marks: list[tuple[int, str]]
    agreement: float


@dataclass(frozen=True)
class Plot:
    """Everything drawn of one stream."""

    stream: str
    svg: str
    strips: list[Strip]


@dataclass(frozen=True)
class Matrix:
    """Checks by name (rows) and subject (columns); a cell is None where none was made."""

    subjects: list[str]
    rows: list[tuple[str, list[Check | None]]]


def _matrix(checks: list[Check]) -> Matrix:
    subjects = list(dict.fromkeys(check.subject for check in checks))
    names = list(dict.fromkeys(check.name for check in checks))
    cells = {(check.name, check.subject): check for check in checks}
    return Matrix(subjects, [(n, [cells.get((n, s)) for s in subjects]) for n in names])


def _by_stream(record: VerifyRecord) -> list[tuple[str, list[StreamParity]]]:
    """Streams in order with the backends that ran."""
    names = dict.fromkeys(p.stream for p in record.streams if p.figures is not None)
    return [
        (n, [p for p in record.streams if p.stream == n and p.figures is not None]) for n in names
    ]


def _plot(stream: str, parities: list[StreamParity]) -> Plot:
    strips = []
    for parity in parities:
        figures = parity.figures
        assert figures is not None
        kinds = {None: "unclear", False: "differs"}
        marks = [(i, kinds[same]) for i, same in enumerate(figures.top1) if same is not True]
        strips.append(Strip(parity.subject, parity.steps, marks, figures.top1_agreement))
    return Plot(stream, _svg(_draw(parities)), strips)


def _draw(parities: list[StreamParity]) -> Figure:
    from matplotlib.figure import Figure
    from matplotlib.ticker import MaxNLocator

    figure = Figure(figsize=(8, 3.2), layout="constrained")
    axes = figure.add_subplot()
    for index, parity in enumerate(parities):
        assert parity.figures is not None
        error = np.array(parity.figures.error).clip(NO_ERROR)
        error[error >= NOT_FINITE] = np.nan
        colour, width = LINES[index % len(LINES)]
        marker = "o" if len(error) == 1 else None
        axes.plot(error, color=colour, linewidth=width, marker=marker, label=parity.subject)
    for limit in sorted({p.threshold.max_error for p in parities}):
        axes.axhline(limit, color=LIMIT, linewidth=1, linestyle="--", label=f"limit {limit:g}")
    axes.set_yscale("log")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.set_xlabel("step", color=INK)
    axes.set_ylabel("error / deviation of the logits", color=INK)
    axes.tick_params(which="both", colors=INK)
    axes.grid(color="#888888", alpha=0.25, linewidth=0.6)
    for side, spine in axes.spines.items():
        spine.set_visible(side in ("left", "bottom"))
        spine.set_color(INK)
    figure.legend(loc="outside upper left", frameon=False, labelcolor=INK, fontsize=9, ncols=3)
    return figure


def _svg(figure: Figure) -> str:
    """The figure as inline SVG, the same for the same record."""
    import matplotlib

    nothing: dict[str, Any] = dict.fromkeys(("Creator", "Date", "Format", "Type"))
    buffer = io.StringIO()
    with matplotlib.rc_context({"svg.fonttype": "none", "svg.hashsalt": "movinet-edge"}):
        figure.savefig(buffer, format="svg", transparent=True, metadata=nothing)
    text = buffer.getvalue()
    text = text[text.index("<svg") :].replace(INK, "currentColor")
    # The page's own size and font; the reference to a metadata vocabulary has no use here.
    text = re.sub(r"<metadata>.*?</metadata>", "", text, flags=re.DOTALL)
    text = re.sub(r'(<svg[^>]*?) width="[^"]*"', r"\1", text, count=1)
    text = re.sub(r'(<svg[^>]*?) height="[^"]*"', r"\1", text, count=1)
    return re.sub(r"(font: [\d.]+px) [^;\"]*", r"\1 system-ui, sans-serif", text)


def _figure(value: float | None, digits: int = 2) -> str:
    """A number for a table; an en dash where there is none."""
    if value is None:
        return "–"
    if value >= NOT_FINITE:
        return "not finite"
    return f"{value:.{digits}e}"
