"""What folders of classes and list files name, and what is wrong with it.

One short reader for each layout that is in use, in one file, for they share all their helpers.
"""

from __future__ import annotations

import csv
import io
import math
import os
import re
from bisect import bisect_left
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TypeVar

from movinet_edge.errors import BadInput

T = TypeVar("T")

SUFFIXES = (
    *(".3gp", ".asf", ".avi", ".flv", ".gif", ".m2ts", ".m4v", ".mkv", ".mov", ".mp4"),
    *(".mpeg", ".mpg", ".mts", ".ogv", ".ts", ".webm", ".wmv"),
)
# What the folders of a split may be called.
SPLITS = {
    "train": ("train", "training"),
    "val": ("val", "validation", "valid"),
    "test": ("test", "testing"),
}
# What the columns of a .csv may be called.
COLUMNS = {
    "path": ("path", "filename", "file", "video"),
    "label": ("label", "class"),
    "labels": ("labels", "classes"),
    "actions": ("actions",),
    "split": ("split",),
    "start": ("start",),
    "end": ("end",),
    "id": ("youtube_id", "id"),
    "id_start": ("time_start",),
    "id_end": ("time_end",),
}
# A list's line: a path, which may have blanks, and perhaps a label, which may too.
LINE = re.compile(
    rf"(?P<path>.+?(?:{'|'.join(map(re.escape, SUFFIXES))}))(?:\s+(?P<label>\S.*))?",
    re.IGNORECASE,
)
NUMBER = re.compile(r"\d{1,5}", re.ASCII)
# UCF101 numbers its classes from 1 in this file beside its lists.
UCF_CLASSES = "classInd.txt"
# Charades names the codes of its actions in this one.
CHARADES_CLASSES = "Charades_v1_classes.txt"


@dataclass(frozen=True, slots=True)
class Finding:
    """What is wrong with `subject` (a path, a class or a line); `text` is a sentence."""

    kind: str
    subject: str
    text: str
    split: str | None = None


@dataclass(frozen=True, slots=True)
class Tag:
    """A class of a video, by its name or, in digits, its number; seen from `start` to `end`."""

    label: str
    start: float = 0.0
    end: float | None = None


@dataclass(frozen=True, slots=True)
class Row:
    """One video as its source names it; `path` is None where it is not there."""

    name: str
    path: Path | None
    tags: tuple[Tag, ...]
    split: str | None = None
    start: float = 0.0
    end: float | None = None


@dataclass(slots=True)
class Source:
    """What a source names.

    `classes` are all that it knows: in the order of their numbers where the source numbers them
    (`numbered`), else sorted. `multi_label`: a video may have any number of them.
    """

    path: Path
    rows: list[Row] = field(default_factory=list)
    classes: tuple[str, ...] = ()
    numbered: bool = False
    multi_label: bool = False
    splits: tuple[str, ...] = ()
    findings: list[Finding] = field(default_factory=list)

    def first_of(self, *splits: str) -> str | None:
        """The first of these splits that it has."""
        return next((split for split in splits if split in self.splits), None)


def read_source(path: Path) -> Source:
    """All that a folder of classes, a ``.txt`` or a ``.csv`` names.

    Raises:
        BadInput: it is none of these, or not readable as such.
    """
    return read_by_kind(
        path, READERS, "data set", "name a folder of classes or a list (.txt, .csv)"
    )


def read_by_kind(
    path: Path, readers: Mapping[str, Callable[[Path], T]], what: str, advice: str
) -> T:
    """By the reader of a file's suffix, or of a ``folder``.

    Raises:
        BadInput: there is no such file, no reader for it, or it cannot be opened.
    """
    if not path.exists():
        raise BadInput(f"there is no {what} at {path}; {advice}")
    read = readers.get("folder" if path.is_dir() else path.suffix.lower())
    if read is None:
        raise BadInput(f"{path} is no {what}; {advice}")
    try:
        return read(path)
    except OSError as error:
        raise BadInput(f"{path} cannot be read ({error.strerror}); see to its rights") from error


def canonical_split(name: str) -> str:
    """The usual name of a split: ``val`` for ``Validation``."""
    lower = name.strip().lower()
    return next((split for split, names in SPLITS.items() if lower in names), lower)


def split_order(splits: set[str]) -> tuple[str, ...]:
    """Usual ones first, as they follow each other."""
    return tuple(sorted(splits, key=lambda s: (list(SPLITS).index(s) if s in SPLITS else 9, s)))


# Folders -----------------------------------------------------------------------------------


def _folders(folder: Path) -> list[Path]:
    return sorted(p for p in folder.iterdir() if p.is_dir() and not p.name.startswith("."))


def videos_below(folder: Path) -> list[Path]:
    """All videos below a folder, without hidden files and folders."""
    found = []
    for place, folders, names in os.walk(folder):
        folders[:] = [name for name in folders if not name.startswith(".")]
        found += [
            Path(place, name)
            for name in names
            if not name.startswith(".") and Path(name).suffix.lower() in SUFFIXES
        ]
    return sorted(found)


def _read_folder(folder: Path) -> Source:
    source = Source(folder)
    splits = [(p, split) for p in _folders(folder) if (split := canonical_split(p.name)) in SPLITS]
    # A class may be called "test", too; but it has videos then, not classes.
    parts: list[tuple[Path, str | None]] = [(folder, None)]
    if any(_folders(p) for p, _ in splits):
        source.splits = split_order({split for _, split in splits})
        parts = [(p, split) for known in source.splits for p, split in splits if split == known]
    classes = set()
    for part, name in parts:
        for place in _folders(part):
            classes.add(place.name)
            videos = videos_below(place)
            source.rows += [Row(str(path), path, (Tag(place.name),), name) for path in videos]
            if not videos:
                text = f"the class folder {place} has no videos; put some there or remove it"
                source.findings.append(Finding("empty class", str(place), text, name))
    source.classes = tuple(sorted(classes))
    if not classes:
        loose = "; put its videos into a folder per class" if videos_below(folder) else ""
        raise BadInput(f"{folder} has no class folders{loose or ' (DIR/<class>/*.mp4)'}")
    if all(canonical_split(name) in SPLITS for name in classes):
        raise BadInput(
            f"{folder} has splits without folders of classes; untrimmed videos cannot be used as "
            "they are"
        )
    return source


# Lists -------------------------------------------------------------------------------------


class _Finder:
    """Finds what a list names: beside it or in a folder above; UCF101's in a folder beside its."""

    def __init__(self, path: Path, ucf: bool = False):
        here = path.absolute().parent
        self.bases = [here, *here.parents, *(_folders(here.parent) if ucf else ())]

    def __call__(self, name: str) -> Path | None:
        return next((p for base in self.bases if (p := base / name).is_file()), None)


def text_of(path: Path) -> str:
    """What a file holds that must be UTF-8."""
    try:
        return path.read_text("utf-8-sig")
    except UnicodeDecodeError:
        raise BadInput(f"{path} is not UTF-8 text; save it as such") from None


def _wrong_line(source: Source, path: Path, number: int, problem: str) -> None:
    text = f"line {number} of {path} {problem}"
    source.findings.append(Finding("wrong line", f"{path}:{number}", text))


def _complete(source: Source) -> Source:
    """Set the classes and splits of a list from its rows, unless it has classes of its own."""
    labels = {tag.label for row in source.rows for tag in row.tags}
    if not source.numbered:
        source.classes = tuple(sorted(labels))
        source.numbered = bool(labels) and all(map(NUMBER.fullmatch, labels))
        if source.numbered:
            source.classes = tuple(map(str, range(max(map(int, labels)) + 1)))
    source.splits = split_order({row.split for row in source.rows if row.split})
    return source


def _read_txt(path: Path) -> Source:
    """``path label`` per line; without a label, the folder of the video is its class."""
    classes = _ucf_classes(path.parent / UCF_CLASSES)
    ucf = bool(classes)
    source, find = Source(path, classes=classes, numbered=ucf), _Finder(path, ucf)
    for number, line in enumerate(text_of(path).splitlines(), 1):
        if not line.strip():
            continue
        match = LINE.fullmatch(line.strip())
        if not match:
            what = f"names no video ({line.strip()[:60]!r}); write a path and its label"
            _wrong_line(source, path, number, what)
            continue
        name, label = match["path"], match["label"] or Path(match["path"]).parent.name
        if ucf and label.isdecimal():
            if not 1 <= int(label) <= len(classes):
                what = f"has the class {label}, but {UCF_CLASSES} has 1 to {len(classes)}"
                _wrong_line(source, path, number, f"{what}; correct one of them")
                continue
            label = classes[int(label) - 1]
        source.rows.append(Row(name, find(name), (Tag(label),)))
    return _complete(source)


def _ucf_classes(path: Path) -> tuple[str, ...]:
    if not path.is_file():
        return ()
    lines = [line.split(maxsplit=1) for line in text_of(path).splitlines() if line.strip()]
    if any(len(line) < 2 or line[0] != str(n) for n, line in enumerate(lines, 1)):
        raise BadInput(f"{path} is no list of classes; write '1 first', '2 second', ... in it")
    return tuple(name.strip() for _, name in lines)


# Tables ------------------------------------------------------------------------------------

Cells = dict[str, str]
Find = Callable[[Cells], Path | None]


def _read_csv(path: Path) -> Source:
    """A table with a header: paths, or the ids of Kinetics or Charades."""
    source = Source(path)
    reader = csv.DictReader(io.StringIO(text_of(path), newline=""))
    headings = {(name or "").strip().lower(): name for name in reader.fieldnames or ()}
    columns = {
        meaning: next((headings[name] for name in names if name in headings), None)
        for meaning, names in COLUMNS.items()
    }
    kind = next((kind for kind in TAGS if columns[kind] is not None), None)
    if kind is None or (columns["path"] is None and columns["id"] is None):
        raise BadInput(
            f"{path} needs a header with the columns path and label (labels, if a video may have "
            "several; or Kinetics' youtube_id and label, or Charades' id and actions), not "
            f"{', '.join(headings) or 'none'}"
        )
    find = _find_by_path(path) if columns["path"] is not None else _FindById(path)
    read = TAGS[kind]
    source.multi_label = kind != "label"
    names = _charades_classes(path.parent / CHARADES_CLASSES) if kind == "actions" else {}
    source.classes, source.numbered = tuple(names.values()), bool(names)
    try:
        for record in reader:
            cells = {m: (record.get(c) or "").strip() if c else "" for m, c in columns.items()}
            try:
                tags = read(cells[kind])
                tags = tuple(replace(tag, label=names.get(tag.label, tag.label)) for tag in tags)
                source.rows.append(_row(cells, tags, find))
            except ValueError as error:
                _wrong_line(source, path, reader.line_num, f"{error}; correct it")
    except csv.Error as error:
        raise BadInput(f"{path} is no readable table ({error}); save it again") from None
    return _complete(source)


def _one_tag(cell: str) -> tuple[Tag, ...]:
    if not cell:
        raise ValueError("lacks a path or a label")
    return (Tag(cell),)


def _several_tags(cell: str) -> tuple[Tag, ...]:
    """``a;b`` or nothing."""
    return tuple(Tag(name) for part in cell.split(";") if (name := part.strip()))


def _timed_tags(cell: str) -> tuple[Tag, ...]:
    """``c092 11.90 21.20;c147 0.00 12.60``, as Charades has it."""
    tags = []
    for part in filter(None, map(str.strip, cell.split(";"))):
        name, *times = part.split()
        if len(times) != 2:
            raise ValueError(f"has an action without its start and end ({part!r})")
        start, end = map(_seconds, times)
        tags.append(Tag(name, start or 0.0, end))
    return tuple(tags)


# How a cell of a column names the classes of its video.
TAGS: dict[str, Callable[[str], tuple[Tag, ...]]] = {
    "label": _one_tag,
    "labels": _several_tags,
    "actions": _timed_tags,
}


def _charades_classes(path: Path) -> dict[str, str]:
    """Names by code, from lines such as ``c000 Holding some clothes``; none if it is not there."""
    if not path.is_file():
        return {}
    lines = [line.split(maxsplit=1) for line in text_of(path).splitlines() if line.strip()]
    if any(len(line) < 2 for line in lines):
        raise BadInput(f"{path} is no list of classes; write 'c000 first', 'c001 second', ...")
    return {code: name.strip() for code, name in lines}


def _row(cells: Cells, tags: tuple[Tag, ...], find: Find) -> Row:
    """The video of a line.

    Raises:
        ValueError: says what is wrong with the line.
    """
    name = cells["path"] or cells["id"]
    if not name:
        raise ValueError("lacks a path or a label")
    start = _seconds(cells["start"]) or 0.0
    end = _seconds(cells["end"])
    if not 0 <= start < (math.inf if end is None else end):
        raise ValueError("ends before it starts")
    split = canonical_split(cells["split"]) or None
    return Row(name, find(cells), tags, split, start, end)


def _seconds(text: str) -> float | None:
    try:
        value = float(text) if text else None
    except ValueError:
        value = math.nan
    if value is not None and not math.isfinite(value):
        raise ValueError(f"has a time that is no number of seconds ({text!r})")
    return value


def _find_by_path(path: Path) -> Find:
    find = _Finder(path)
    return lambda cells: find(cells["path"])


class _FindById:
    """Finds ``<id>.mp4`` or ``<id>_<start>_<end>.mp4`` below a list's folder, or the one above.

    Behind the id may be anything that does not begin with a letter or a digit.

    Kinetics' files are cut to the segment already.
    """

    def __init__(self, path: Path):
        here = path.absolute().parent
        self.files = sorted((p.stem, p) for p in videos_below(here) or videos_below(here.parent))

    def __call__(self, cells: Cells) -> Path | None:
        near = list(self._that_begin(cells["id"]))
        start, end = _seconds(cells["id_start"]), _seconds(cells["id_end"])
        if start is not None and end is not None:
            exact = f"{cells['id']}_{int(start):06d}_{int(end):06d}"
            near.sort(key=lambda entry: entry[0] != exact)
        return near[0][1] if near else None

    def _that_begin(self, name: str) -> Iterator[tuple[str, Path]]:
        for entry in self.files[bisect_left(self.files, (name,)) :]:
            if not entry[0].startswith(name):
                return
            if not entry[0][len(name) : len(name) + 1].isalnum():
                yield entry


READERS = {"folder": _read_folder, ".txt": _read_txt, ".csv": _read_csv}
