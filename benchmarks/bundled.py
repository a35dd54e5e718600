"""Contestants from a bundle: `Stream.step` on our backends and peers', after a check of answers."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping

import numpy as np

from movinet_edge.benchmarks.contestant import EngineClock, Entry, TimedEngine
from movinet_edge.benchmarks.facts import delegate_partitions
from movinet_edge.benchmarks.peer_engines import loaded_file, peer_named
from movinet_edge.benchmarks.record import GraphFile, Subject
from movinet_edge.bundle import (
    MANIFEST,
    Bundle,
    FormatName,
    Graph,
    Manifest,
    ModelFile,
    Plan,
    sha256_of,
)
from movinet_edge.errors import CheckFailed
from movinet_edge.runtime.graph import GraphRunner
from movinet_edge.runtime.stream import Prediction, Stream


class BundleContestant:
    """A stream through a bundle. A step is a frame, or a clip where the model takes clips."""

    def __init__(self, entry: Entry, bundle: Bundle | None = None):
        self.entry = entry
        self.clock = EngineClock()
        backend = peer_named(entry.way, entry.made) if entry.same_weights else entry.way
        self.stream = Stream(bundle or entry.path, backend, entry.precision, entry.threads)
        for runner in self.stream.graphs.values():
            runner.engine = TimedEngine(runner.engine, self.clock)
        manifest = self.stream.bundle.manifest
        self.frame_size = (manifest.preprocessing.height, manifest.preprocessing.width)
        self.frames_per_step = max(graph.frames for graph in manifest.graphs)

    def step(self, clip: Iterable[np.ndarray]) -> np.ndarray | None:
        prediction = None
        for frame in clip:
            prediction = self.stream.step(frame)
        return None if prediction is None else prediction.logits

    def reset(self) -> None:
        self.stream.reset()

    def close(self) -> None:
        self.stream.close()

    def describe(self) -> Subject:
        bundle, runners = self.stream.bundle, self.stream.graphs.values()
        return Subject(
            label=self.entry.label,
            name=self.entry.name,
            kind=self.entry.kind,
            bundle=bundle.manifest.name,
            manifest_sha256=sha256_of(bundle.root / MANIFEST),
            backend=self.stream.backend.name,
            engine=self.stream.backend.needs,
            engine_version=self.stream.version,
            precision=self.entry.precision,
            files=tuple(self._describe_file(runner) for runner in runners),
            frames_per_step=self.frames_per_step,
            macs_per_step=macs_per_step(bundle.manifest, self.frames_per_step),
            bytes_per_step=bytes_per_step(
                bundle.manifest,
                {name: runner.file for name, runner in self.stream.graphs.items()},
                self.frames_per_step,
            ),
            state_bytes=sum(runner.state_bytes for runner in runners),
        )

    def _describe_file(self, runner: GraphRunner) -> GraphFile:
        backend, file = self.stream.backend, runner.file
        path, sha256 = loaded_file(backend, self.stream.bundle, file)
        engine = runner.engine
        inner = engine.inner if isinstance(engine, TimedEngine) else engine
        partitions = None
        if file.format == "tflite":
            partitions = delegate_partitions(path, backend.needs, self.entry.threads)
        return GraphFile(
            graph=runner.graph.name,
            form=runner.graph.form,
            file=path.name,
            sha256=sha256,
            bytes=path.stat().st_size,
            delegate="XNNPACK" if partitions else None,
            partitions=partitions,
            fully_accelerated=getattr(inner, "fully_accelerated", None),
        )


def precisions(manifest: Manifest, fmt: FormatName) -> list[str]:
    """The precisions in which every graph of a bundle has a file of a format."""

    def held(graph: Graph) -> list[str]:
        return [f.precision for f in graph.files if f.format == fmt]

    planned = [manifest.graph(step.graph) for step in manifest.plan_for(fmt).steps]
    first, *others = planned
    return [p for p in held(first) if all(p in held(graph) for graph in others)]


def macs_per_step(manifest: Manifest, frames_per_step: int) -> float:
    """Multiply-accumulates of a step, averaged over the plan where graphs run now and then.

    Of graphs to choose from it is the largest that counts.
    """
    return _per_step(manifest.plan, manifest, frames_per_step, lambda graph: graph.macs)


def bytes_per_step(
    manifest: Manifest, files: Mapping[str, ModelFile], frames_per_step: int
) -> float:
    """Bytes that a step reads and writes of weights and tensors, averaged as `macs_per_step`.

    `files` are by the names of their graphs. What engines keep between two layers is not in it.
    """

    def moved(graph: Graph) -> int:
        file = files[graph.name]
        return file.bytes + sum(spec.nbytes for spec in (*file.inputs, *file.outputs))

    plan = manifest.plan_for(next(iter(files.values())).format)
    return _per_step(plan, manifest, frames_per_step, moved)


def _per_step(
    plan: Plan, manifest: Manifest, frames_per_step: int, cost: Callable[[Graph], int]
) -> float:
    total, chosen = 0.0, [0.0]
    for planned in plan.steps:
        graph = manifest.graph(planned.graph)
        share = cost(graph) * frames_per_step / (planned.every * graph.frames)
        if planned.when is None:
            total += share
        else:
            chosen.append(share)
    return total + max(chosen)


def check_parity(contestant: BundleContestant) -> float:
    """Stream the golden frames; the largest error over the deviation of the reference.

    Raises:
        CheckFailed: the error is over the manifest's threshold, or there was no answer.
    """
    stream, entry = contestant.stream, contestant.entry
    bundle = stream.bundle
    with np.load(bundle.file(bundle.manifest.golden)) as golden:
        frames, reference = golden["frames"], golden["logits"]
    stream.reset()
    length = contestant.frames_per_step
    predictions = fresh(stream.run(frames), length)
    final = stream.finish()
    stream.reset()
    if not predictions and final is not None:
        predictions = [final]  # the golden stream was shorter than a clip
    return error_within_limit(bundle.manifest, entry.precision, predictions, reference, entry.label)


def fresh(predictions: Iterable[Prediction], frames_per_step: int) -> list[Prediction]:
    """Those at the ends of clips: between them a stream repeats its last answer."""
    return [p for p in predictions if (p.frame + 1) % frames_per_step == 0]


def error_within_limit(
    manifest: Manifest,
    precision: str,
    predictions: list[Prediction],
    reference: np.ndarray,
    label: str,
) -> float:
    """The largest error of answers over the deviation of the reference [T or 1, classes].

    Raises:
        CheckFailed: the error is over the manifest's threshold, or there is no answer.
    """
    if not predictions:
        raise CheckFailed(f"{label} gave no answer for the golden stream")
    probabilities = manifest.output == "probabilities"
    error = _relative_error(predictions, reference, probabilities, manifest.plan.delay)
    limit = manifest.thresholds[precision].max_error
    if not error <= limit:  # NaN is no pass
        raise CheckFailed(
            f"{label} computes wrong numbers: error {error:.2g} of the logits' deviation, "
            f"{limit:.2g} allowed; it was not timed (see movinet-edge verify)"
        )
    return error


def _relative_error(
    predictions: list[Prediction], reference: np.ndarray, probabilities: bool, delay: int
) -> float:
    """Largest absolute error over the reference's deviation; reference [T or 1, classes]."""
    if len(reference) == 1:  # one answer for the whole stream: the last
        ours, theirs = predictions[-1].logits[None], reference
    else:
        ours = np.stack([p.logits for p in predictions])
        theirs = reference[[p.frame - delay for p in predictions]]
    if probabilities:  # then logits are known up to a constant only
        ours, theirs = _log_softmax(ours), _log_softmax(theirs)
    return float(np.abs(ours - theirs).max() / theirs.std())


def _log_softmax(logits: np.ndarray) -> np.ndarray:
    shifted = logits - logits.max(-1, keepdims=True)
    return shifted - np.log(np.exp(shifted).sum(-1, keepdims=True))
