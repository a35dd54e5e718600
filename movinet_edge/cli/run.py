"""``movinet-edge run``: classify a video or a camera, live, or find segments in it."""

from __future__ import annotations

import json
import sys
from collections import Counter
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Annotated

import typer

from movinet_edge.cli.options import CostBias, HeldPrecision

if TYPE_CHECKING:
    from rich.table import Table

    from movinet_edge.runtime import Prediction


def run(
    path: Annotated[Path, typer.Argument(metavar="BUNDLE", help="Directory or .zip.")],
    source: Annotated[str, typer.Argument(metavar="VIDEO|camera:0", help="What to watch.")],
    backend: Annotated[
        str | None,
        typer.Option(help="litert, onnxruntime, ...; default: the first installed."),
    ] = None,
    precision: HeldPrecision = None,
    top_k: Annotated[int, typer.Option(min=1, help="How many classes to show.")] = 5,
    threads: Annotated[int, typer.Option(min=1, help="CPU threads of the engine.")] = 1,
    cost_bias: CostBias = 0.0,
    sample: Annotated[
        int | None,
        typer.Option(
            min=0,
            metavar="SEED",
            help="Of a model that decides: draw actions by their probabilities.",
            show_default=False,
        ),
    ] = None,
    threshold: Annotated[
        float | None,
        typer.Option(
            min=0,
            max=1,
            help="Of segments' scores; those below are not told. Default: 0.1.",
            show_default=False,
        ),
    ] = None,
    live: Annotated[
        bool,
        typer.Option("--live", help="Find segments in a file as in a stream, window by window."),
    ] = False,
    as_json: Annotated[
        bool,
        typer.Option(
            "--json",
            help="One object per step, the last is the answer; of segments one per change.",
        ),
    ] = False,
    save: Annotated[
        Path | None,
        typer.Option(
            help="Write the video with the answers drawn on it; of segments the timeline (.png)."
        ),
    ] = None,
) -> None:
    """Classify a video frame by frame at the bundle's rate, the top classes live; or find segments.

    What may still change is printed again, what is final is not: every segment has an id in --json.
    """
    from movinet_edge.bundle import Bundle
    from movinet_edge.errors import BadInput
    from movinet_edge.runtime import Stream
    from movinet_edge.runtime.video import CAMERA, read_camera, read_frames

    bundle = Bundle(path)
    if save is not None and save.resolve() == Path(source).resolve():
        raise BadInput("--save would overwrite the video itself; choose another name")
    if bundle.manifest.localization is not None:
        from movinet_edge.cli.run_segments import Watch, run_segments
        from movinet_edge.runtime.segments import THRESHOLD

        if cost_bias or sample is not None:
            raise BadInput(f"{path} decides nothing; leave out --cost-bias and --sample")
        least = THRESHOLD if threshold is None else threshold
        held = precision and precision.value
        run_segments(bundle, Watch(source, backend, held, threads, least, live, as_json, save))
        return
    if live or threshold is not None:
        raise BadInput(f"{path} finds no segments; leave out --live and --threshold")
    rate = bundle.manifest.preprocessing.frame_rate
    live = source.startswith(CAMERA)
    frames = read_camera(source, rate) if live else read_frames(source, rate)
    with ExitStack() as stack:
        stream = stack.enter_context(
            Stream(bundle, backend, precision and precision.value, threads, cost_bias, sample)
        )
        writer = None
        if save is not None:
            from movinet_edge.runtime.annotate import AnnotatedVideo

            writer = stack.enter_context(AnnotatedVideo(save, rate, top_k))
        view: JsonView | TerminalView
        view = JsonView(top_k) if as_json else TerminalView(source, top_k)
        stack.enter_context(view)
        answer: Prediction | None = None
        time = 0.0
        try:
            for frame in frames:
                time = frame.time
                prediction = stream.step(frame.image)
                if prediction is not None:
                    answer = prediction
                    view.show(answer, time)
                if writer is not None:
                    writer.add(frame.image, answer)
        except KeyboardInterrupt:  # how one stops a camera; a stopped video is no answer
            if not live:
                raise
        if answer is None and (answer := stream.finish()) is not None:
            view.show(answer, time)
        view.finish(answer)


class JsonView:
    """One JSON object per line and step."""

    def __init__(self, top_k: int):
        self.top_k = top_k

    def show(self, prediction: Prediction, time: float) -> None:
        top = [
            {"label": s.label, "index": s.index, "score": round(s.score, 6)}
            for s in prediction.top(self.top_k)
        ]
        record: dict[str, object] = {"frame": prediction.frame, "time": round(time, 6)}
        if prediction.action is not None:
            record["action"] = prediction.action
        record["top"] = top
        sys.stdout.write(json.dumps(record) + "\n")
        sys.stdout.flush()

    def finish(self, answer: Prediction | None) -> None:
        """Nothing: the last line printed is the answer."""

    def __enter__(self) -> JsonView:
        return self

    def __exit__(self, *_: object) -> None:
        return None


class TerminalView:
    """A live table of the top classes, then the answer for the whole video."""

    def __init__(self, source: str, top_k: int):
        from rich.live import Live

        from movinet_edge.cli.console import out

        self.source, self.top_k = source, top_k
        self.taken = Counter[str]()  # frames by action
        self.live = Live(console=out(), transient=True, refresh_per_second=12)

    def show(self, prediction: Prediction, time: float) -> None:
        if prediction.action is not None:
            self.taken[prediction.action] += 1
        done = f"  {prediction.action}" if prediction.action else ""
        self.live.update(self._table(prediction, f"{self.source}  {time:6.2f} s{done}"))

    def finish(self, answer: Prediction | None) -> None:
        self.live.stop()
        if answer is not None:
            self.live.console.print(
                self._table(answer, f"{self.source}: after {answer.frame + 1} frames")
            )
        if self.taken:
            shares = ", ".join(f"{name} {count}" for name, count in self.taken.most_common())
            self.live.console.print(f"frames by action: {shares}", highlight=False)

    def _table(self, prediction: Prediction, title: str) -> Table:
        from rich.progress_bar import ProgressBar
        from rich.table import Table

        table = Table(title=title, show_header=False, title_justify="left")
        for score in prediction.top(self.top_k):
            bar = ProgressBar(total=1.0, completed=score.score, width=24)
            table.add_row(score.label, f"{score.score:6.1%}", bar)
        return table

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
