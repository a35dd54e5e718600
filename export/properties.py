"""An artefact as a stream: its answers, and what must be true of it whatever it computes.

The properties are checked on short pieces of a generated video; they need no reference. Where a
plan has several graphs, each is also checked as a stream of its own.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from copy import copy
from itertools import combinations
from typing import Any

import numpy as np

from movinet_edge.bundle import Bundle, Graph, ModelFile, Plan, PlanStep, TensorSpec
from movinet_edge.export.snippet_answers import SnippetAnswers
from movinet_edge.export.verify_record import Check
from movinet_edge.runtime import Stream
from movinet_edge.runtime.engines import Buffer
from movinet_edge.runtime.graph import GraphRunner
from movinet_edge.runtime.segments import SegmentStream

# Frames of a stream form's pieces: enough to fill the longest buffer (four past frames).
STEPS = 6
# Relative; an engine may add up in another order when the later frames of a clip are others.
PREFIX_TOLERANCE = 1e-5

# How much states are changed, in turn: in 8 bits a small change may be rounded away, and a value at
# the end of its range goes one way only.
DISTURBANCES = (1.0, -1.0, 10.0, 100.0)

Outcome = tuple[bool, str]


class Answers:
    """The answers of a stream as logits, one per frame.

    A clip form gives those of all its frames when a clip is complete. Where the model ends in a
    softmax, the logits are known up to a constant; they are the ones with mean 0.

    `scored`: behind those of the classes come the scores of the last decision, if any is made.
    """

    def __init__(self, stream: Stream, scored: bool = False):
        self.stream, self._scored = stream, scored and stream.chooser is not None
        self._runners = list(stream.graphs.values())
        self._whole = max(runner.graph.frames for runner in self._runners)
        self._count = 0

    def reset(self) -> None:
        self.stream.reset()
        self._count = 0

    def step(self, frame: np.ndarray) -> np.ndarray:
        """The answers [n, classes] that one more frame brings; n is 0 while a clip fills."""
        manifest = self.stream.bundle.manifest
        prediction = self.stream.step(frame)
        self._count += 1
        if prediction is None or self._count % self._whole:
            return np.zeros((0, manifest.classes), np.float32)
        combined = manifest.plan_for(self.stream.backend.format).combine == "looks"
        rows = prediction.logits[None] if combined or self._whole == 1 else self._of_a_clip()
        if manifest.output == "probabilities":
            rows = centred(rows)
        if self._scored and self.stream.chooser is not None:
            rows = np.concatenate([rows, self.stream.chooser.scores[None]], 1)
        return rows

    def _of_a_clip(self) -> np.ndarray:
        """The logits of all frames of the last run of its one graph."""
        manifest = self.stream.bundle.manifest
        rows = self._runners[0].read(manifest.plan.answer)
        # The reference engine answers with logits whatever the artefacts end in.
        if manifest.output == "logits" or self.stream.backend.format == "torch":
            return rows
        return np.asarray(np.log(np.maximum(rows, np.finfo(rows.dtype).tiny)))

    def run(self, frames: Iterable[np.ndarray]) -> np.ndarray:
        """The answers [n, classes] of the next frames."""
        return np.concatenate([self.step(frame) for frame in frames])


AnyAnswers = Answers | SnippetAnswers


def centred(logits: np.ndarray) -> np.ndarray:
    """Logits [n, classes] shifted to mean 0, which no softmax can tell apart."""
    shifted: np.ndarray = logits - logits.mean(1, keepdims=True)
    return shifted


def check_encoder(
    open_stream: Callable[[Bundle], SegmentStream], bundle: Bundle, frames: np.ndarray
) -> list[Check]:
    """Check the encoder of a localization bundle; arguments as of `check_properties`."""
    return _check_stream(open_stream, bundle, frames, SnippetAnswers)


def check_properties(
    open_stream: Callable[[Bundle], Stream], bundle: Bundle, frames: np.ndarray
) -> list[Check]:
    """Check one artefact on one backend: the whole plan, and each member of an ensemble alone.

    Args:
        open_stream: a new stream of a bundle on that backend and precision.
        frames: uint8 [T, H, W, 3] of the model's size, at least one clip long.
    """
    checks = _check_stream(open_stream, bundle, frames)
    if bundle.manifest.plan.combine == "mean":
        for graph in bundle.manifest.graphs:
            for check in _check_stream(open_stream, _alone(bundle, graph), frames):
                checks.append(check.model_copy(update={"name": f"{graph.name}: {check.name}"}))
    return checks


def _alone(bundle: Bundle, graph: Graph) -> Bundle:
    """The same bundle with one graph only, which runs at every frame."""
    plan = Plan(steps=(PlanStep(graph=graph.name),), answer=bundle.manifest.plan.answer)
    return _with(bundle, graphs=(graph,), plan=plan)


def _check_stream(
    open_stream: Callable[[Bundle], Any],
    bundle: Bundle,
    frames: np.ndarray,
    answers: type[Answers] | type[SnippetAnswers] = Answers,
) -> list[Check]:
    pieces = _Pieces(bundle, frames)

    def of(changed: Bundle) -> np.ndarray:
        """What a changed bundle answers to the second piece."""
        with open_stream(changed) as stream:
            return answers(stream, scored=True).run(pieces.b)

    with open_stream(bundle) as one, open_stream(bundle) as two:
        first, second = answers(one, scored=True), answers(two, scored=True)
        subject = f"{one.backend.name} {_precision(one)}"
        alone = second.run(pieces.b)
        rows: list[tuple[str, Outcome | None]] = [
            ("every state input matters", _states_matter(first, pieces)),
            ("reset forgets the stream", _reset_forgets(first, pieces, alone)),
            ("without reset the stream goes on", _without_reset(first, pieces, alone)),
            ("interleaved streams do not mix", _interleaved(first, second, pieces, alone)),
            ("earlier answers ignore later frames", _prefix(first, pieces, alone)),
            ("tensors bind by name", _by_name(of, bundle, alone)),
            ("swapped states are noticed", _swapped(of, bundle, one, alone)),
        ]
    return [
        Check(kind="property", subject=subject, name=name, holds=outcome[0], detail=outcome[1])
        for name, outcome in rows
        if outcome is not None
    ]


class _Pieces:
    """Two different pieces of video, `a` and `b`; a clip form's are one clip long.

    `lead` is `a` up to where a stream left there would show: the middle of a clip, or of a plan.
    """

    def __init__(self, bundle: Bundle, frames: np.ndarray):
        manifest = bundle.manifest
        clip = max(graph.frames for graph in manifest.graphs)
        self.is_clip = clip > 1
        architecture = manifest.provenance.architecture
        causal = (architecture.get("encoder") or architecture).get("causal", True)
        self.causal = causal or manifest.plan.delay > 0
        period = manifest.plan.period
        steps = max(STEPS, 2 * period) + manifest.plan.delay
        count = clip if self.is_clip else min(steps, len(frames))
        self.waits = manifest.plan.delay  # frames before the first answer
        self.a, self.b = frames[:count], frames[-count:][::-1]
        if self.is_clip:
            self.lead = self.a[: max(count // 2, 1)]
        else:
            self.lead = self.a[:-1] if period > 1 and count % period == 0 else self.a


def _states_matter(answers: AnyAnswers, pieces: _Pieces) -> Outcome | None:
    """Change one state input at a time: an answer or another state must change in that step.

    Its own next value does not count, for a buffer that is merely passed on also changes.
    """
    answers.reset()
    answers.run(pieces.a)
    dead, count = [], 0
    for runner in answers.stream.graphs.values():
        saved = _Saved(runner)
        before = saved.next_step()
        for spec in runner.file.inputs:
            if spec.role != "state" or spec.state is None:
                continue
            count += 1
            if not any(_shows(saved, spec, before, factor) for factor in DISTURBANCES):
                dead.append(spec.name)
    if count == 0:
        return None
    return not dead, f"no effect: {', '.join(dead)}" if dead else f"{count} inputs"


def _shows(saved: _Saved, spec: TensorSpec, before: dict[str, np.ndarray], factor: float) -> bool:
    after = saved.next_step(spec.name, factor)
    return any(not np.array_equal(after[n], before[n]) for n in before if n != spec.state)


class _Saved:
    """A graph in the middle of a stream, to be continued from there more than once."""

    def __init__(self, runner: GraphRunner):
        self.runner, self.step = runner, runner.steps
        self.buffers = [buffer for ring in runner.rings for buffer in ring.buffers]
        self.values = [buffer.array.copy() for buffer in self.buffers]

    def next_step(self, disturb: str | None = None, factor: float = 1.0) -> dict[str, np.ndarray]:
        """Run the next step, on the last frame again; its answers and next states by name.

        `disturb` names a state input whose value is changed just before, by `factor` times what
        its values deviate.
        """
        runner = self.runner
        runner.steps = self.step
        for buffer, value in zip(self.buffers, self.values, strict=True):
            buffer.array[...] = value
        if disturb is not None:
            # The buffer that this very step reads: rings rotate, so it is another every time.
            read = {k: v for ring in runner.rings for k, v in ring.at(self.step)[0].items()}
            _disturb(read[disturb], factor)
        runner.run()
        names = runner.outputs | runner.features
        return {name: runner.read(name) for name in names} | runner.states()


def _disturb(buffer: Buffer, factor: float) -> None:
    """Add positive noise of `factor` times the values' own size."""
    array, rng = buffer.array, np.random.default_rng(0)
    size = factor * (float(np.std(array.astype(np.float64))) or 1.0)
    noise = rng.uniform(0.5, 1.5, array.shape) * size
    if array.dtype.kind == "f":
        array += noise.astype(array.dtype)
    else:
        limits = np.iinfo(array.dtype)
        array[...] = (array + np.ceil(noise)).clip(limits.min, limits.max)


def _reset_forgets(answers: AnyAnswers, pieces: _Pieces, alone: np.ndarray) -> Outcome:
    answers.reset()
    for frame in pieces.lead:
        answers.step(frame)
    answers.reset()
    return _identical(answers.run(pieces.b), alone)


def _without_reset(answers: AnyAnswers, pieces: _Pieces, alone: np.ndarray) -> Outcome:
    answers.reset()
    for frame in pieces.lead:
        answers.step(frame)
    return _different(answers.run(pieces.b)[-len(alone) :], alone)


def _interleaved(
    first: AnyAnswers,
    second: AnyAnswers,
    pieces: _Pieces,
    alone: np.ndarray,
) -> Outcome:
    first.reset()
    a_alone = first.run(pieces.a)
    first.reset()
    second.reset()
    steps = [(first.step(x), second.step(y)) for x, y in zip(pieces.a, pieces.b, strict=True)]
    a, b = (np.concatenate(rows) for rows in zip(*steps, strict=True))
    return _identical(np.concatenate([a, b]), np.concatenate([a_alone, alone]))


def _prefix(answers: AnyAnswers, pieces: _Pieces, alone: np.ndarray) -> Outcome | None:
    """Matters most for the clip form of a causal model, which is given the later frames too."""
    kept = len(alone) // 2
    if not pieces.causal or kept == 0 or len(alone) != len(pieces.b) - pieces.waits:
        return None
    answers.reset()
    cut = pieces.waits + kept
    other = answers.run(np.concatenate([pieces.b[:cut], 255 - pieces.b[cut:]]))
    error = np.abs(other[:kept] - alone[:kept]).max() / (alone.std() or 1.0)
    noticed = not np.array_equal(other[kept:], alone[kept:])
    return bool(error <= PREFIX_TOLERANCE and noticed), f"difference {error:.1e} after {kept} steps"


def _by_name(of: Callable[[Bundle], np.ndarray], bundle: Bundle, alone: np.ndarray) -> Outcome:
    """The same bundle, listing its tensors and states in another order."""
    return _identical(of(_edited(bundle, _reversed_graph)), alone)


def _swapped(
    of: Callable[[Bundle], np.ndarray],
    bundle: Bundle,
    stream: Stream | SegmentStream,
    alone: np.ndarray,
) -> Outcome | None:
    """The same bundle with the inputs of two states of one shape exchanged."""
    files = [runner.file for runner in stream.graphs.values()]
    pair = next((p for file in files for p in _twins(file)), None)
    if pair is None:
        return None
    changed = _edited(bundle, lambda graph: _with_swap(graph, *pair))
    holds, detail = _different(of(changed), alone)
    return holds, f"{pair[0]} and {pair[1]}: {detail}"


def _edited(bundle: Bundle, edit: Callable[[Graph], Graph]) -> Bundle:
    return _with(bundle, graphs=tuple(edit(graph) for graph in bundle.manifest.graphs))


def _with(bundle: Bundle, **fields: object) -> Bundle:
    """The same files with other fields in the manifest."""
    changed = copy(bundle)
    changed.manifest = bundle.manifest.model_copy(update=fields)
    return changed


def _reversed_graph(graph: Graph) -> Graph:
    files = tuple(
        file.model_copy(update={"inputs": file.inputs[::-1], "outputs": file.outputs[::-1]})
        for file in graph.files[::-1]
    )
    return graph.model_copy(update={"files": files, "states": graph.states[::-1]})


def _with_swap(graph: Graph, one: str, other: str) -> Graph:
    """The input tensors of two states exchanged, slot by slot; not their scales."""
    partner = {one: other, other: one}

    def swap(file: ModelFile) -> ModelFile:
        names = {(spec.state, spec.slot): spec.name for spec in file.inputs}
        inputs = tuple(
            spec.model_copy(update={"name": names[partner[spec.state], spec.slot]})
            if spec.state in partner
            else spec
            for spec in file.inputs
        )
        return file.model_copy(update={"inputs": inputs})

    return graph.model_copy(update={"files": tuple(map(swap, graph.files))})


def _twins(file: ModelFile) -> Iterable[tuple[str, str]]:
    """Pairs of states whose inputs have the same shapes and types, buffers before means."""
    kinds: dict[str, list[tuple[tuple[int, ...], str]]] = {}
    for spec in file.inputs:
        if spec.role == "state" and spec.state is not None:
            kinds.setdefault(spec.state, []).append((spec.shape, spec.dtype))
    by_rank = sorted(kinds, key=lambda name: -len(kinds[name][0][0]))
    return (pair for pair in combinations(by_rank, 2) if kinds[pair[0]] == kinds[pair[1]])


def _precision(stream: Stream | SegmentStream) -> str:
    return next(iter(stream.graphs.values())).file.precision


def _identical(answers: np.ndarray, expected: np.ndarray) -> Outcome:
    if answers.shape != expected.shape:
        return False, f"{len(answers)} answers instead of {len(expected)}"
    if np.array_equal(answers, expected):
        return True, "bit-identical"
    return False, f"differs by {np.abs(answers - expected).max():.3g}"


def _different(answers: np.ndarray, expected: np.ndarray) -> Outcome:
    if answers.shape != expected.shape:
        return True, f"{len(answers)} answers instead of {len(expected)}"
    largest = float(np.abs(answers - expected).max(initial=0.0))
    return not np.array_equal(answers, expected), f"largest difference {largest:.3g}"
