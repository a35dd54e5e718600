"""Files of annotations as they are: what they say of every video, usable or not."""

from __future__ import annotations

import csv
import json
import math
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from movinet_edge.data.sources import canonical_split, read_by_kind, text_of
from movinet_edge.errors import BadInput

# Beside G-TAD's annotations of ActivityNet: which split each video belongs to.
GTAD_SPLITS = "video_info_new.csv"
# THUMOS14 numbers its classes so in tables, and has segments of no certain class.
THUMOS_CLASSES = (
    *("BaseballPitch", "BasketballDunk", "Billiards", "CleanAndJerk", "CliffDiving"),
    *("CricketBowling", "CricketShot", "Diving", "FrisbeeCatch", "GolfSwing", "HammerThrow"),
    *("HighJump", "JavelinThrow", "LongJump", "PoleVault", "Shotput", "SoccerPenalty"),
    *("TennisSwing", "ThrowDiscus", "VolleyballSpiking"),
)
AMBIGUOUS = ("Ambiguous", "-1")
THUMOS_FILE = re.compile(r"(?P<label>[A-Za-z]+)_(?P<split>val|test|train)\.txt")
# What the columns of THUMOS14's tables are called: video, class, start, end, length, frame rate.
TABLES = (
    ("video", "type", "start", "end", None, None),
    ("video-name", "label-idx", "t-init", "t-end", "video-duration", "frame-rate"),
)


@dataclass(frozen=True)
class RawAction:
    """A segment in seconds and its class."""

    start: float
    end: float
    label: str


@dataclass
class RawVideo:
    """A video as a file has it; what the file does not tell is None."""

    name: str
    actions: list[RawAction] = field(default_factory=list)
    split: str | None = None
    seconds: float | None = None
    feature_seconds: float | None = None
    frame_rate: float | None = None


def read_raw(path: Path) -> list[RawVideo]:
    """All videos that a file or folder annotates.

    Raises:
        BadInput: missing, unreadable or of no known layout.
    """
    return read_by_kind(
        path, READERS, "annotation file", "name a .json, a .csv or THUMOS14's folder"
    )


# JSON --------------------------------------------------------------------------------------


def _read_json(path: Path) -> list[RawVideo]:
    try:
        content = json.loads(text_of(path))
    except json.JSONDecodeError as error:
        raise BadInput(f"{path} is no JSON ({error}); copy it again") from None
    database = content.get("database") if isinstance(content, dict) else None
    if isinstance(database, dict):
        return [_activitynet(path, name, entry) for name, entry in database.items()]
    gtad = isinstance(content, dict) and content and all(map(_is_gtad, content.values()))
    if not gtad:
        raise BadInput(
            f"{path} is of no known layout; it needs a 'database' of videos as ActivityNet's has"
        )
    splits = _gtad_splits(path.parent / GTAD_SPLITS)
    return [_gtad(path, name, entry, splits.get(name)) for name, entry in content.items()]


def _activitynet(path: Path, name: str, entry: Any) -> RawVideo:
    """``{"subset", "duration", "annotations": [{"segment": [start, end], "label"}]}``."""
    if not isinstance(entry, dict) or not isinstance(entry.get("annotations"), list):
        raise BadInput(f"{name} in {path} lacks its list of annotations; correct it")
    seconds = _number(path, name, entry["duration"]) if entry.get("duration") else None
    if seconds is not None and seconds <= 0:
        raise BadInput(f"{name} in {path} has a duration of {seconds:g} seconds; correct it")
    split = canonical_split(str(entry["subset"])) if entry.get("subset") else None
    return RawVideo(name, _actions(path, name, entry["annotations"]), split, seconds)


def _is_gtad(entry: Any) -> bool:
    return isinstance(entry, dict) and {"duration_second", "annotations"} <= entry.keys()


def _gtad(path: Path, name: str, entry: dict[str, Any], split: str | None) -> RawVideo:
    """As ActivityNet's, with lengths in seconds and frames and how many of these have features."""
    names = ("duration_second", "duration_frame", "feature_frame")
    seconds, frames, covered = (_number(path, name, entry.get(key)) for key in names)
    if seconds <= 0 or frames <= 0 or covered <= 0:
        raise BadInput(f"{name} in {path} has no length; correct its durations")
    actions = _actions(path, name, entry["annotations"])
    return RawVideo(name, actions, split, seconds, covered / frames * seconds, frames / seconds)


def _gtad_splits(path: Path) -> dict[str, str]:
    """By video; none if the table is not there."""
    if not path.is_file():
        return {}
    rows = _rows(path)
    return {row["video"]: canonical_split(row["subset"]) for row in rows if row.get("subset")}


def _actions(path: Path, name: str, entries: list[Any]) -> list[RawAction]:
    actions = []
    for entry in entries:
        segment = entry.get("segment") if isinstance(entry, dict) else None
        if not isinstance(segment, list) or len(segment) != 2 or "label" not in entry:
            raise BadInput(
                f"an annotation of {name} in {path} lacks its label or its segment [start, end]; "
                "correct it"
            )
        start, end = (_number(path, name, time) for time in segment)
        actions.append(RawAction(start, end, str(entry["label"])))
    return actions


def _number(path: Path, name: str, value: Any) -> float:
    """A time or a length, also as text, as THUMOS14's are."""
    try:
        number = float(value)
    except (TypeError, ValueError):
        number = math.nan
    if not math.isfinite(number):
        raise BadInput(f"{name} in {path} has {value!r} where a number belongs; correct it")
    return number


# THUMOS14 ----------------------------------------------------------------------------------


def _read_csv(path: Path) -> list[RawVideo]:
    """A segment per line; which split a video belongs to is in its name."""
    rows = _rows(path)
    columns = next((t for t in TABLES if rows and set(filter(None, t)) <= rows[0].keys()), None)
    if columns is None:
        needed = " or ".join(", ".join(filter(None, table)) for table in TABLES)
        raise BadInput(f"{path} is no table of segments; it needs the columns {needed}")
    video, label, start, end, length, rate = columns
    found: dict[str, RawVideo] = {}
    for row in rows:
        name = row[video]
        entry = found.setdefault(name, RawVideo(name, split=_thumos_split(name)))
        entry.seconds = _number(path, name, row[length]) if length else None
        entry.frame_rate = _number(path, name, row[rate]) if rate else None
        times = (_number(path, name, row[start]), _number(path, name, row[end]))
        _add(entry, times, _thumos_class(path, row[label]))
    return list(found.values())


def _thumos_class(path: Path, text: str) -> str:
    if not text.isdecimal():
        return text
    if int(text) >= len(THUMOS_CLASSES):
        raise BadInput(f"{path} has the class {text}, THUMOS14 has 0 to 19; correct it")
    return THUMOS_CLASSES[int(text)]


def _thumos_split(name: str) -> str | None:
    """``video_validation_0000051`` -> ``val``."""
    middle = name.split("_")[1:2]
    return canonical_split(middle[0]) if middle else None


def _read_folder(folder: Path) -> list[RawVideo]:
    """A file per class, a segment per line: ``video_test_0000004  0.2 1.1``."""
    found: dict[str, RawVideo] = {}
    for path in sorted(folder.glob("*.txt")):
        match = THUMOS_FILE.fullmatch(path.name)
        if match is None:
            continue
        for number, line in enumerate(text_of(path).splitlines(), 1):
            words = line.split()
            if not words:
                continue
            if len(words) != 3:
                raise BadInput(
                    f"line {number} of {path} is no video with a start and an end; correct it"
                )
            entry = found.setdefault(words[0], RawVideo(words[0], split=match["split"]))
            times = (_number(path, words[0], words[1]), _number(path, words[0], words[2]))
            _add(entry, times, match["label"])
    if not found:
        raise BadInput(f"{folder} has no annotations as THUMOS14's (<class>_<split>.txt)")
    return list(found.values())


def _add(video: RawVideo, times: tuple[float, float], label: str) -> None:
    """Unless it is of no certain class: evaluations leave those out."""
    if label not in AMBIGUOUS:
        video.actions.append(RawAction(times[0], times[1], label))


def _rows(path: Path) -> list[dict[str, str]]:
    try:
        lines: Iterable[str] = text_of(path).splitlines()
        return [{k: v or "" for k, v in row.items() if k} for row in csv.DictReader(lines)]
    except csv.Error as error:
        raise BadInput(f"{path} is no readable table ({error}); save it again") from None


READERS: dict[str, Callable[[Path], list[RawVideo]]] = {
    "folder": _read_folder,
    ".json": _read_json,
    ".csv": _read_csv,
}
