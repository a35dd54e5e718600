"""A running stream: frames in, predictions out, by the bundle's plan."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType

import numpy as np

from movinet_edge.bundle import Bundle, Graph, Plan, PlanStep
from movinet_edge.errors import BadInput
from movinet_edge.runtime.choice import Chooser
from movinet_edge.runtime.engines import Backend, backend_named, usable_backends
from movinet_edge.runtime.graph import GraphRunner, feature_rings
from movinet_edge.runtime.preprocess import Fitted


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
    `multi_label`: each class is there or not, whatever the others are. `action` is the name of what
    was done with the frame, where the model decides on that.
    """

    frame: int
    logits: np.ndarray
    labels: list[str]
    multi_label: bool = False
    action: str | None = None

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
    has answered, the latest last. `chooser` decides what is done with a frame, where the plan has
    a choice.

    Args:
        bundle: path of a bundle directory or zip, or an opened `Bundle` to share.
        backend: a name of `BACKENDS`, or a backend of your own; by default the first installed
            one the bundle has files for.
        precision: which of the bundle's precisions to run; by default fp32, or the first it has
            for the backend.
        threads: CPU threads of the engine.
        cost_bias: of a model that decides: times an action's cost is subtracted from its score, so
            that one bundle serves fast and slow devices.
        sample: a seed, to draw actions by their probabilities instead of taking the best.

    Raises:
        BadInput: unreadable bundle, unknown backend, engine not installed; a `cost_bias` or
            `sample` where nothing is decided.
    """

    def __init__(
        self,
        bundle: str | Path | Bundle,
        backend: str | Backend | None = None,
        precision: str | None = None,
        threads: int = 1,
        cost_bias: float = 0.0,
        sample: int | None = None,
    ):
        if threads < 1:
            raise BadInput(f"threads must be at least 1, not {threads}")
        self.bundle = bundle if isinstance(bundle, Bundle) else Bundle(bundle)
        manifest = self.bundle.manifest
        if manifest.task != "classification":
            raise BadInput(
                f"{self.bundle.path} finds segments and does not classify frames; watch it with "
                "movinet-edge run, or a SegmentStream"
            )
        self.backend = choose_backend(self.bundle, backend)
        self._contract = manifest.preprocessing
        self._plan = manifest.plan_for(self.backend.format)
        # The reference model itself always answers with logits.
        self._probabilities = manifest.output == "probabilities" and self.backend.format != "torch"
        self._multi_label = manifest.scores == "sigmoid"
        # The reference model has an answer for every frame, also where the plan has not.
        self._renewal = manifest.renewal if self.backend.format == "torch" else 1
        self.chooser = _chooser(self.bundle, self._plan, cost_bias, sample)
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
        self._looks = _Mean(manifest.classes)
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
        check_frame(frame, number)
        shown = Fitted(frame, self._contract)
        for planned in self._plan.steps:
            if not self._is_due(planned, number):
                continue
            runner = self.graphs[planned.graph]
            if runner.frame is not None:
                position = (number // planned.every) % runner.graph.frames
                shown.fill(runner.frame[position])
                if position + 1 < runner.graph.frames:
                    self._partial = runner.frame[position]
                    continue
                self._partial = None
            runner.run()
            if self.chooser is not None and planned.graph == self.chooser.choice.graph:
                self._decide(runner)
            if number % self._renewal == 0:
                self._take(runner)
        self._frame = number + 1
        return self._answered(number)

    def _is_due(self, planned: PlanStep, number: int) -> bool:
        """Whether a graph runs at frame `number`; of a choice, once that has been made."""
        if number % planned.every != planned.offset:
            return False
        chooser = self.chooser
        if chooser is None:
            return True
        if planned.graph == chooser.choice.graph:
            return not chooser.holds or bool(chooser.choice.going_on)
        return planned.when is None or planned.when == chooser.action.name

    def _decide(self, runner: GraphRunner) -> None:
        """The graph that decides has run."""
        assert self.chooser is not None
        if self.chooser.holds:
            runner.hold(self.chooser.choice.going_on)
        else:
            self.chooser.decide(runner.read(self.chooser.choice.output)[0])

    def _answered(self, number: int) -> Prediction | None:
        """The answer after a frame's graphs have run, if there is one."""
        looked = self.chooser is None or not self.chooser.action.skip
        if self._plan.combine == "looks":
            if looked:
                self._looks.add(next(reversed(self.answers.values())))
        elif not self.answers or number < self._plan.delay:
            return None
        prediction = self._predict(number)
        if self.chooser is not None:
            self.chooser.end_frame()
        return prediction

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
        answered = self.answers or (self._plan.combine == "looks" and self._frame)
        return self._predict(self._frame - 1) if answered else None

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
        self._looks.reset()
        if self.chooser is not None:
            self.chooser.reset()
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
        combine, answers = self._plan.combine, list(self.answers.values())
        if combine == "looks":
            answer = self._looks.value
        elif combine == "mean" and len(answers) > 1:
            answer = np.asarray(np.mean(answers, axis=0), np.float32)
        else:
            answer = answers[-1]
        action = None if self.chooser is None else self.chooser.action.name
        return Prediction(number, answer, self.bundle.labels, self._multi_label, action)

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


class _Mean:
    """The mean of logits [classes] so far; zeros before the first."""

    def __init__(self, classes: int):
        self._mean = np.zeros(classes)
        self.reset()

    def add(self, logits: np.ndarray) -> None:
        self._count += 1
        self._mean += (logits - self._mean) / self._count

    @property
    def value(self) -> np.ndarray:
        return self._mean.astype(np.float32)

    def reset(self) -> None:
        self._mean[...] = 0
        self._count = 0


def _chooser(bundle: Bundle, plan: Plan, cost_bias: float, sample: int | None) -> Chooser | None:
    if plan.choice is not None:
        return Chooser(plan.choice, cost_bias, sample)
    if cost_bias or sample is not None:
        whole = bundle.manifest.plan.choice is not None
        raise BadInput(
            f"{bundle.path} decides inside its PyTorch model; take another backend"
            if whole
            else f"{bundle.path} decides nothing; leave out --cost-bias and sampling"
        )
    return None


def check_frame(frame: np.ndarray, number: int) -> None:
    """Raise `ValueError` if frame `number` 0 of a stream is of floats beyond their range."""
    if number == 0 and frame.dtype.kind == "f" and not _in_range(frame):
        raise ValueError("a float frame holds values in 0..1; divide bytes by 255")


def _in_range(frame: np.ndarray) -> bool:
    """Whether values are in [0, 1], give or take what resizing overshoots; not with NaN."""
    return frame.size == 0 or bool(frame.min() >= -0.1 and frame.max() <= 1.1)


def _precision(graph: Graph, backend: Backend) -> str:
    held = [file.precision for file in graph.files if file.format == backend.format]
    return "fp32" if "fp32" in held or not held else held[0]


def choose_backend(bundle: Bundle, named: str | Backend | None) -> Backend:
    """The backend that is named, or the first installed one that the bundle has files for.

    Raises:
        BadInput: an unknown one, or none is installed.
    """
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
