"""``movinet-edge run`` of a bundle that finds segments: in a video, or live in a stream."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.table import Table

    from movinet_edge.bundle import Bundle
    from movinet_edge.runtime.segments import SegmentStream
    from movinet_edge.runtime.tracks import Segment


@dataclass(frozen=True)
class Watch:
    """What the command line says."""

    source: str
    backend: str | None
    precision: str | None
    threads: int
    threshold: float
    live: bool
    as_json: bool
    save: Path | None


def run_segments(bundle: Bundle, asked: Watch) -> None:
    """Print the segments of a video, or those of a stream as they appear.

    Raises:
        BadInput: as `SegmentStream`, a video that cannot be read, or a picture that cannot be
            drawn.
    """
    from movinet_edge.cli.console import note
    from movinet_edge.errors import BadInput
    from movinet_edge.runtime.segments import SegmentStream
    from movinet_edge.runtime.timeline import check_timeline, save_timeline, thumbnails
    from movinet_edge.runtime.video import CAMERA

    camera = asked.source.startswith(CAMERA)
    if asked.save is not None:
        if camera:
            raise BadInput("--save draws the timeline of a video; a camera's has no end")
        check_timeline(asked.save)
    with ExitStack() as stack:
        stream = stack.enter_context(
            SegmentStream(bundle, asked.backend, asked.precision, asked.threads, asked.threshold)
        )
        view: JsonView | TerminalView
        view = JsonView() if asked.as_json else TerminalView(asked.source)
        stack.enter_context(view)
        if camera or asked.live:
            segments, seconds = _live(stream, asked.source, view, camera)
        else:
            segments = stream.find(asked.source)
            seconds = stream.seconds
            view.show(segments, seconds)
        view.finish(segments)
    if not segments and not camera:
        note(f"no segment has a score of {asked.threshold:g} or more; lower --threshold")
    if asked.save is not None:
        title = f"{Path(asked.source).name}: {len(segments)} segments"
        pictures = thumbnails(asked.source, seconds)
        save_timeline(asked.save, segments, seconds, title, pictures)


def _live(
    stream: SegmentStream, source: str, view: JsonView | TerminalView, camera: bool
) -> tuple[list[Segment], float]:
    """Show what changes; the final segments (of a camera none are kept) and the seconds seen."""
    from movinet_edge.runtime.video import read_camera, read_frames

    rate = stream.contract.frame_rate
    final: list[Segment] = []
    time = 0.0

    def show(changes: Sequence[Segment]) -> None:
        view.show(changes, time)
        if not camera:
            final.extend(segment for segment in changes if segment.status == "final")

    try:
        for frame in read_camera(source, rate) if camera else read_frames(source, rate):
            time = frame.time
            show(stream.step(frame.image))
    except KeyboardInterrupt:  # how one stops a camera; a stopped video is no answer
        if not camera:
            raise
    show(stream.finish())
    if not camera:
        stream.check_seen(source)
    return sorted(final, key=lambda segment: segment.start), time + 1 / rate


class JsonView:
    """One JSON object per line for every segment that is new, changed, final or withdrawn."""

    def show(self, changes: Iterable[Segment], time: float) -> None:
        for segment in changes:
            record = {
                "time": round(time, 6),
                "id": segment.id,
                "status": segment.status,
                "start": round(segment.start, 6),
                "end": round(segment.end, 6),
                "label": segment.label,
                "index": segment.index,
                "score": round(segment.score, 6),
            }
            sys.stdout.write(json.dumps(record) + "\n")
        sys.stdout.flush()

    def finish(self, segments: Sequence[Segment]) -> None:
        """Nothing: all was printed."""

    def __enter__(self) -> JsonView:
        return self

    def __exit__(self, *_: object) -> None:
        return None


class TerminalView:
    """A live table of what may still change, final segments above it, then all of them."""

    def __init__(self, source: str):
        from rich.live import Live

        from movinet_edge.cli.console import out

        self.source = source
        self.open: dict[int, Segment] = {}
        self.final = 0
        self.live = Live(console=out(), transient=True, refresh_per_second=12)

    def show(self, changes: Iterable[Segment], time: float) -> None:
        for segment in changes:
            self.open.pop(segment.id, None)
            if segment.status == "provisional":
                self.open[segment.id] = segment
            self.final += segment.status == "final"
        title = f"{self.source}  {time:6.1f} s, {self.final} final, those that may still change:"
        self.live.update(_table(list(self.open.values()), title))

    def finish(self, segments: Sequence[Segment]) -> None:
        self.live.stop()
        self.live.console.print(_table(segments, f"{self.source}: {self.final} segments"))

    def __enter__(self) -> TerminalView:
        self.live.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.live.stop()


def _table(segments: Sequence[Segment], title: str) -> Table:
    from rich.table import Table

    table = Table(title=title, title_justify="left")
    for column in ("start", "end"):
        table.add_column(column, justify="right", no_wrap=True)
    table.add_column("label")
    table.add_column("score", justify="right", no_wrap=True)
    for segment in segments:
        times = (f"{segment.start:.1f} s", f"{segment.end:.1f} s")
        table.add_row(*times, segment.label, f"{segment.score:.1%}")
    return table
