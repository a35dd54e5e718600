"""Where an artefact parts from the PyTorch model: the first layer whose state differs."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from movinet_edge.bundle import TensorSpec
from movinet_edge.runtime import Stream
from movinet_edge.runtime.graph import GraphRunner

AFTER_LAST = "head (after head.pool)"
CLOCK = "clock"  # a counter, no layer


def first_layer(
    stream: Stream, torch_stream: Stream, frames: Iterable[np.ndarray], limit: float
) -> str | None:
    """The first layer whose state is not the PyTorch model's after the last of `frames`.

    States come in the order of execution; one differs where its error exceeds `limit` times its
    own deviation. Where the plan has several graphs, the layer's is named. None where the graphs
    have no states.
    """
    for frame in frames:
        stream.step(frame)
        torch_stream.step(frame)
    whole = next(iter(torch_stream.graphs.values()))  # where PyTorch has one for all graphs
    found = {
        name: _first_of_graph(runner, torch_stream.graphs.get(name) or whole, limit)
        for name, runner in stream.graphs.items()
    }
    name, layer = next(((n, layer) for n, layer in found.items() if layer), (None, None))
    if layer is None and any(runner.graph.states for runner in stream.graphs.values()):
        name, layer = _worst(stream, torch_stream), AFTER_LAST
    return f"{layer} of {name}" if layer and len(found) > 1 else layer


def _first_of_graph(runner: GraphRunner, reference: GraphRunner, limit: float) -> str | None:
    """The first state of a graph that differs; None where all agree."""
    found, wanted = runner.states(), reference.states()
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
    return None


def _worst(stream: Stream, torch_stream: Stream) -> str:
    """The graph whose newest answer is the furthest from the PyTorch model's."""

    def error(name: str) -> float:
        # Logits that come from probabilities are known up to a constant.
        wanted = torch_stream.answers.get(name, next(iter(torch_stream.answers.values())))
        got, expected = (x - x.mean() for x in (stream.answers[name], wanted))
        return float(np.nan_to_num(np.abs(got - expected).max(), nan=np.inf))

    return max(stream.answers, key=error)


def _aligned(
    value: np.ndarray, spec: TensorSpec, reference: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """An artefact's state and the PyTorch model's, both [frames, C, H, W] or [C].

    The PyTorch model keeps all past frames, [past, C, H, W] with the newest last; an artefact
    gives the newest only, or all stacked along the height, in the layout of `spec`.
    """
    if reference.ndim != 4 or value.ndim != 4:
        return value.reshape(-1), reference.reshape(-1)
    if spec.layout == "NHWC":
        value = value.transpose(0, 3, 1, 2)
    height = reference.shape[2]
    stacked = value.shape[2] // height
    frames = value[0].reshape(value.shape[1], stacked, height, -1).transpose(1, 0, 2, 3)
    return frames, reference[-stacked:]
