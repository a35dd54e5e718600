"""An artefact as a stream: its answers, what must be true of it whatever it computes, and where
it parts from the PyTorch model.

The properties are checked on short pieces of a generated video; they need no reference.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from copy import copy
from itertools import combinations

import numpy as np

from movinet_edge.bundle import Bundle, Graph, ModelFile, TensorSpec
from movinet_edge.export.verify_record import Check
from movinet_edge.runtime import Stream
from movinet_edge.runtime.engines import Buffer
from movinet_edge.runtime.graph import GraphRunner

# Frames of a stream form's pieces: enough to fill the longest buffer (four past frames).
STEPS = 6
# Relative; an engine may add up in another order when the later frames of a clip are others.
PREFIX_TOLERANCE = 1e-5
AFTER_LAST = "head (after head.pool)"
CLOCK = "clock"  # a counter, no layer

Outcome = tuple[bool, str]


class Answers:
    """The answers of a stream as logits, one per frame.

    A clip form gives those of all its frames when a clip is complete. Where the model ends in a
    softmax, the logits are known up to a constant; they are the ones with mean 0.
    """

    def __init__(self, stream: Stream):
        self.stream = stream
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
        if len(self._runners) > 1:
            return prediction.logits[None].copy()
        rows = self._runners[0].read(manifest.plan.answer)
        if manifest.output == "logits":
            return rows
        # The reference engine answers with logits whatever the artefacts end in.
        is_torch = self.stream.backend.format == "torch"
        return centred(rows if is_torch else np.log(np.maximum(rows, np.finfo(rows.dtype).tiny)))

    def run(self, frames: Iterable[np.ndarray]) -> np.ndarray:
        """The answers [n, classes] of the next frames."""
        return np.concatenate([self.step(frame) for frame in frames])


def centred(logits: np.ndarray) -> np.ndarray:
    """Logits [n, classes] shifted to mean 0, which no softmax can tell apart."""
    shifted: np.ndarray = logits - logits.mean(1, keepdims=True)
    return shifted


def check_properties(
    open_stream: Callable[[Bundle], Stream], bundle: Bundle, frames: np.ndarray
) -> list[Check]:
    """Check one artefact on one backend.

    Args:
        open_stream: a new stream of a bundle on that backend and precision.
        frames: uint8 [T, H, W, 3] of the model's size, at least one clip long.
    """
    pieces = _Pieces(bundle, frames)
    first, second = Answers(open_stream(bundle)), Answers(open_stream(bundle))
    subject = f"{first.stream.backend.name} {_precision(first.stream)}"
    alone = second.run(pieces.b)
    rows: list[tuple[str, Outcome | None]] = [
        ("every state input matters", _states_matter(first, pieces)),
        ("reset forgets the stream", _reset_forgets(first, pieces, alone)),
        ("without reset the stream goes on", _without_reset(first, pieces, alone)),
        ("interleaved streams do not mix", _interleaved(first, second, pieces, alone)),
        ("earlier answers ignore later frames", _prefix(first, pieces, alone)),
        ("tensors bind by name", _by_name(open_stream, bundle, pieces, alone)),
        ("swapped states are noticed", _swapped(open_stream, bundle, pieces, alone)),
    ]
    return [
        Check(kind="property", subject=subject, name=name, holds=outcome[0], detail=outcome[1])
        for name, outcome in rows
        if outcome is not None
    ]


class _Pieces:
    """Two different pieces of video, `a` and `b`; a clip form's are one clip long."""

    def __init__(self, bundle: Bundle, frames: np.ndarray):
        manifest = bundle.manifest
        clip = max(graph.frames for graph in manifest.graphs)
        self.is_clip = clip > 1
        self.causal = manifest.provenance.architecture.get("causal", True)
        count = clip if self.is_clip else min(STEPS, len(frames))
        self.a, self.b = frames[:count], frames[-count:][::-1]
        # Half a clip, so that what is left of it would show.
        self.lead = self.a[: max(count // 2, 1)] if self.is_clip else self.a


def _states_matter(answers: Answers, pieces: _Pieces) -> Outcome | None:
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
            after = saved.next_step(disturb=spec.name)
            if all(np.array_equal(after[n], before[n]) for n in before if n != spec.state):
                dead.append(spec.name)
    if count == 0:
        return None
    return not dead, f"no effect: {', '.join(dead)}" if dead else f"{count} inputs"


class _Saved:
    """A graph in the middle of a stream, to be continued from there more than once."""

    def __init__(self, runner: GraphRunner):
        self.runner, self.step = runner, runner.steps
        self.buffers = [buffer for ring in runner.rings for buffer in ring.buffers]
        self.values = [buffer.array.copy() for buffer in self.buffers]

    def next_step(self, disturb: str | None = None) -> dict[str, np.ndarray]:
        """Run the next step, on the last frame again; its answers and next states by name.

        `disturb` names a state input whose value is changed just before.
        """
        runner = self.runner
        runner.steps = self.step
        for buffer, value in zip(self.buffers, self.values, strict=True):
            buffer.array[...] = value
        if disturb is not None:
            # The buffer that this very step reads: rings rotate, so it is another every time.
            read = {k: v for ring in runner.rings for k, v in ring.at(self.step)[0].items()}
            _disturb(read[disturb])
        runner.run()
        return {name: runner.read(name) for name in runner.outputs} | runner.states()


def _disturb(buffer: Buffer) -> None:
    """Add positive noise of the values' own size."""
    array, rng = buffer.array, np.random.default_rng(0)
    size = float(np.std(array.astype(np.float64))) or 1.0
    noise = rng.uniform(0.5, 1.5, array.shape) * size
    if array.dtype.kind == "f":
        array += noise.astype(array.dtype)
    else:
        limits = np.iinfo(array.dtype)
        array[...] = (array + np.ceil(noise)).clip(limits.min, limits.max)


def _reset_forgets(answers: Answers, pieces: _Pieces, alone: np.ndarray) -> Outcome:
    answers.reset()
    for frame in pieces.lead:
        answers.step(frame)
    answers.reset()
    return _identical(answers.run(pieces.b), alone)


def _without_reset(answers: Answers, pieces: _Pieces, alone: np.ndarray) -> Outcome:
    answers.reset()
    for frame in pieces.lead:
        answers.step(frame)
    return _different(answers.run(pieces.b), alone)


def _interleaved(first: Answers, second: Answers, pieces: _Pieces, alone: np.ndarray) -> Outcome:
    first.reset()
    a_alone = first.run(pieces.a)
    first.reset()
    second.reset()
    steps = [(first.step(x), second.step(y)) for x, y in zip(pieces.a, pieces.b, strict=True)]
    a, b = (np.concatenate(rows) for rows in zip(*steps, strict=True))
    return _identical(np.concatenate([a, b]), np.concatenate([a_alone, alone]))


def _prefix(answers: Answers, pieces: _Pieces, alone: np.ndarray) -> Outcome | None:
    """Matters most for the clip form of a causal model, which is given the later frames too."""
    kept = len(pieces.b) // 2
    if not pieces.causal or kept == 0 or len(alone) != len(pieces.b):
        return None
    answers.reset()
    other = answers.run(np.concatenate([pieces.b[:kept], 255 - pieces.b[kept:]]))
    error = np.abs(other[:kept] - alone[:kept]).max() / (alone.std() or 1.0)
    noticed = not np.array_equal(other[kept:], alone[kept:])
    return bool(error <= PREFIX_TOLERANCE and noticed), f"difference {error:.1e} after {kept} steps"


def _by_name(
    open_stream: Callable[[Bundle], Stream], bundle: Bundle, pieces: _Pieces, alone: np.ndarray
) -> Outcome:
    """The same bundle, listing its tensors and states in another order."""
    changed = _edited(bundle, _reversed_graph)
    with open_stream(changed) as stream:
        return _identical(Answers(stream).run(pieces.b), alone)


def _swapped(
    open_stream: Callable[[Bundle], Stream], bundle: Bundle, pieces: _Pieces, alone: np.ndarray
) -> Outcome | None:
    """The same bundle with the inputs of two states of one shape exchanged."""
    with open_stream(bundle) as stream:
        files = [runner.file for runner in stream.graphs.values()]
    pair = next((p for file in files for p in _twins(file)), None)
    if pair is None:
        return None
    changed = _edited(bundle, lambda graph: _with_swap(graph, *pair))
    with open_stream(changed) as stream:
        holds, detail = _different(Answers(stream).run(pieces.b), alone)
    return holds, f"{pair[0]} and {pair[1]}: {detail}"


def _edited(bundle: Bundle, edit: Callable[[Graph], Graph]) -> Bundle:
    changed = copy(bundle)
    graphs = tuple(edit(graph) for graph in bundle.manifest.graphs)
    changed.manifest = bundle.manifest.model_copy(update={"graphs": graphs})
    return changed


def _reversed_graph(graph: Graph) -> Graph:
    files = tuple(
        file.model_copy(update={"inputs": file.inputs[::-1], "outputs": file.outputs[::-1]})
        for file in graph.files[::-1]
    )
    return graph.model_copy(update={"files": files, "states": graph.states[::-1]})


def _with_swap(graph: Graph, one: str, other: str) -> Graph:
    names = {one: other, other: one}

    def swap(file: ModelFile) -> ModelFile:
        inputs = tuple(
            spec.model_copy(update={"state": names.get(spec.state, spec.state)})
            if spec.state is not None
            else spec
            for spec in file.inputs
        )
        return file.model_copy(update={"inputs": inputs})

    return graph.model_copy(update={"files": tuple(map(swap, graph.files))})


def _twins(file: ModelFile) -> Iterable[tuple[str, str]]:
    """Pairs of states whose inputs have the same shapes, buffers of frames before means."""
    shapes: dict[str, list[tuple[int, ...]]] = {}
    for spec in file.inputs:
        if spec.role == "state" and spec.state is not None:
            shapes.setdefault(spec.state, []).append(spec.shape)
    by_rank = sorted(shapes, key=lambda name: -len(shapes[name][0]))
    return (pair for pair in combinations(by_rank, 2) if shapes[pair[0]] == shapes[pair[1]])


def _precision(stream: Stream) -> str:
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


def first_layer(
    stream: Stream, torch_stream: Stream, frames: Iterable[np.ndarray], limit: float
) -> str | None:
    """The first layer whose state is not the PyTorch model's after the last of `frames`.

    States come in the order of execution; one differs where its error exceeds `limit` times its
    own deviation. None where the graph has no states.
    """
    for frame in frames:
        stream.step(frame)
        torch_stream.step(frame)
    ((name, runner),) = stream.graphs.items()
    found, wanted = runner.states(), torch_stream.graphs[name].states()
    specs = {s.state: s for s in runner.file.outputs if s.state is not None}
    for state in runner.graph.states:
        if state.name == CLOCK:
            continue
        got, expected = _aligned(found[state.name], specs[state.name], wanted[state.name])
        scale = float(expected.std() or np.abs(expected).max() or 1.0)
        if got.shape != expected.shape:
            return state.name
        # Not `>`: a state full of NaN differs, too.
        if not float(np.abs(got - expected).max()) <= limit * scale:
            return state.name
    return AFTER_LAST if wanted else None


def _aligned(
    value: np.ndarray, spec: TensorSpec, reference: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """An artefact's state and the PyTorch model's, both [frames, C, H, W] or [C].

    The PyTorch model keeps all past frames, [past, C, H, W] with the newest last; an artefact
    gives the newest only, or all stacked along the height, in the layout of `spec`.
    """
    value = value.astype(np.float32)
    if spec.quantization is not None:
        value = (value - spec.quantization.zero_point) * np.float32(spec.quantization.scale)
    if reference.ndim != 4 or value.ndim != 4:
        return value.reshape(-1), reference.reshape(-1)
    if spec.layout == "NHWC":
        value = value.transpose(0, 3, 1, 2)
    height = reference.shape[2]
    stacked = value.shape[2] // height
    frames = value[0].reshape(value.shape[1], stacked, height, -1).transpose(1, 0, 2, 3)
    return frames, reference[-stacked:]
