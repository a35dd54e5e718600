"""A running stream: frames in, predictions out, by the bundle's plan."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType

import numpy as np

from movinet_edge.bundle import Bundle, Graph
from movinet_edge.errors import BadInput
from movinet_edge.runtime.engines import Backend, backend_named, usable_backends
from movinet_edge.runtime.graph import GraphRunner, feature_rings
from movinet_edge.runtime.preprocess import fill


@dataclass(frozen=True, slots=True)
class Score:
    """One class of a prediction; `score` is its probability."""

    label: str
    index: int
    score: float


@dataclass(frozen=True, slots=True)
class Prediction:
    """The answer after a frame. `logits` is float32 [classes], of everything seen so far.

    Where the graph ends in a softmax, `logits` are log-probabilities: the same up to a constant.
    `multi_label`: each class is there or not, whatever the others are.
    """

    frame: int
    logits: np.ndarray
    labels: list[str]
    multi_label: bool = False

    @property
    def probabilities(self) -> np.ndarray:
        """Softmax of the logits, or with `multi_label` their sigmoids; float32 [classes]."""
        if self.multi_label:
            sigmoids: np.ndarray = 1 / (1 + np.exp(-self.logits.clip(-80)))
            return sigmoids
        shifted = np.exp(self.logits - self.logits.max())
        return shifted / shifted.sum()

    def top(self, k: int = 5) -> list[Score]:
        """The `k` most probable classes, best first; `k` is at least 1."""
        if k < 1:
            raise ValueError(f"k must be at least 1, not {k}")
        scores = self.probabilities
        best = np.argsort(-scores, kind="stable")[:k]
        return [Score(self.labels[i], int(i), float(scores[i])) for i in best]


class Stream:
    """One stream through a bundle.

    `graphs` are its runners by name, `answers` the newest logits [classes] of every graph that
    has answered, the latest last.

    Args:
        bundle: path of a bundle directory or zip, or an opened `Bundle` to share.
        backend: a name of `BACKENDS`, or a backend of your own; by default the first installed
            one the bundle has files for.
        precision: which of the bundle's precisions to run; by default fp32, or the first it has
            for the backend.
        threads: CPU threads of the engine.

    Raises:
        BadInput: unreadable bundle, unknown backend, engine not installed.
    """

    def __init__(
        self,
        bundle: str | Path | Bundle,
        backend: str | Backend | None = None,
        precision: str | None = None,
        threads: int = 1,
    ):
        if threads < 1:
            raise BadInput(f"threads must be at least 1, not {threads}")
        self.bundle = bundle if isinstance(bundle, Bundle) else Bundle(bundle)
        manifest = self.bundle.manifest
        self.backend = _choose(self.bundle, backend)
        self._contract = manifest.preprocessing
        self._plan = manifest.plan_for(self.backend.format)
        # The reference model itself always answers with logits.
        self._probabilities = manifest.output == "probabilities" and self.backend.format != "torch"
        self._multi_label = manifest.scores == "sigmoid"
        # The reference model has an answer for every frame, also where the plan has not.
        self._renewal = manifest.renewal if self.backend.format == "torch" else 1
        self._features = feature_rings(manifest)
        self.graphs = {
            graph.name: GraphRunner(
                self.bundle,
                graph,
                self.backend,
                precision or _precision(graph, self.backend),
                threads,
                self._features,
            )
            for graph in manifest.graphs
            if any(graph.name == step.graph for step in self._plan.steps)
        }
        self.answers: dict[str, np.ndarray] = {}
        self._partial: np.ndarray | None = None  # the last frame of a clip that is not full
        self._frame = 0
        self._ended = False

    @property
    def version(self) -> str:
        """The engine's version."""
        return next(iter(self.graphs.values())).engine.version

    def step(self, frame: np.ndarray) -> Prediction | None:
        """Take the next frame: RGB [H, W, 3], uint8 or float in [0, 1], of any size.

        Returns the answer so far; None while a model that sees whole clips waits for the first
        clip to be complete.

        Raises:
            ValueError: the frame is not such an array (of floats, the first frame's range is
                checked), or the stream is closed.
        """
        number = self._frame
        if not self.graphs:
            raise ValueError("the stream is closed")
        if self._ended:
            raise ValueError("the stream has ended; reset it first")
        if number == 0 and frame.dtype.kind == "f" and not _in_range(frame):
            raise ValueError("a float frame holds values in 0..1; divide bytes by 255")
        for planned in self._plan.steps:
            runner = self.graphs[planned.graph]
            if number % planned.every != planned.offset:
                continue
            if runner.frame is not None:
                position = (number // planned.every) % runner.graph.frames
                fill(runner.frame[position], frame, self._contract)
                if position + 1 < runner.graph.frames:
                    self._partial = runner.frame[position]
                    continue
                self._partial = None
            runner.run()
            if number % self._renewal == 0:
                self._take(runner)
        self._frame = number + 1
        if not self.answers or number < self._plan.delay:
            return None
        return self._predict(number)

    def finish(self) -> Prediction | None:
        """The final answer; None if no frame came.

        For frame-by-frame models this is the answer to the last step, also where the plan answers
        now and then only; one that looks ahead first takes the steps that complete it, and ends the
        stream. A first clip that ended early is completed by repeating its last frame; the rest
        behind a whole clip is left out, for the whole clip says more.
        """
        if self._plan.delay and self._frame and not self._ended:
            self._flush()
        while self._partial is not None and not self.answers:
            self.step(self._partial.copy())
        if self.answers:
            self._renew(self._frame - 1)
        return self._predict(self._frame - 1) if self.answers else None

    def _renew(self, number: int) -> None:
        """Answer for frame `number`, the last, where the plan's turn to answer was before it."""
        for planned in self._plan.steps:
            runner = self.graphs[planned.graph]
            # Without states and frames of its own it may run again on what others made.
            repeats = not runner.rings and runner.frame is None
            if repeats and number % planned.every != planned.offset:
                runner.run()
                self._take(runner)
            elif self._renewal > 1:
                self._take(runner)

    def _flush(self) -> None:
        """The steps behind the last frame."""
        runners = [runner for runner in self.graphs.values() if runner.valid is not None]
        for runner in runners:
            assert runner.valid is not None
            runner.valid.fill(0)
        (shown,) = {r.frame.shape for r in runners if r.frame is not None}
        nothing = np.zeros(shown[1:], np.uint8)
        for _ in range(self._plan.delay):
            self.step(nothing)
        self._frame -= self._plan.delay
        self._ended = True

    def run(self, frames: Iterable[np.ndarray]) -> Iterator[Prediction]:
        """Step through `frames`, yielding every answer."""
        for frame in frames:
            prediction = self.step(frame)
            if prediction is not None:
                yield prediction

    def reset(self) -> None:
        """Begin a new stream."""
        for runner in self.graphs.values():
            runner.reset()
        self.answers.clear()
        self._ended = False
        self._partial = None
        self._frame = 0

    def _take(self, runner: GraphRunner) -> None:
        """Keep what a graph answered last, if it answers; the newest answer stands last."""
        if self._plan.answer in runner.outputs:
            self.answers.pop(runner.graph.name, None)
            self.answers[runner.graph.name] = self._logits(runner)

    def _logits(self, runner: GraphRunner) -> np.ndarray:
        """What a graph answered last, float32 [classes]; of probabilities their logarithms."""
        answer = runner.read(self._plan.answer)[-1]
        if self._probabilities:
            answer = np.log(np.maximum(answer, np.finfo(np.float32).tiny))
        return answer

    def _predict(self, number: int) -> Prediction:
        answers = list(self.answers.values())
        answer = answers[-1]
        if self._plan.combine == "mean" and len(answers) > 1:
            answer = np.asarray(np.mean(answers, axis=0), np.float32)
        return Prediction(number, answer, self.bundle.labels, self._multi_label)

    def close(self) -> None:
        """Release the engines."""
        for runner in self.graphs.values():
            runner.close()
        self.graphs.clear()

    def __enter__(self) -> Stream:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()


def _in_range(frame: np.ndarray) -> bool:
    """Whether values are in [0, 1], give or take what resizing overshoots; not with NaN."""
    return frame.size == 0 or bool(frame.min() >= -0.1 and frame.max() <= 1.1)


def _precision(graph: Graph, backend: Backend) -> str:
    held = [file.precision for file in graph.files if file.format == backend.format]
    return "fp32" if "fp32" in held or not held else held[0]


def _choose(bundle: Bundle, named: str | Backend | None) -> Backend:
    if named is not None:
        return backend_named(named) if isinstance(named, str) else named
    formats = {file.format for graph in bundle.manifest.graphs for file in graph.files}
    usable = usable_backends(formats)
    if not usable:
        raise BadInput(
            "no engine for this bundle is installed; pip install 'movinet-edge[litert]' "
            "or 'movinet-edge[onnxruntime]'"
        )
    return usable[0]
