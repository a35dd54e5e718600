"""The exported G-TAD head against the export of the published way, on both engines.

``python -m movinet_edge.benchmarks.gtad_head`` converts both heads, times them in turn on one
thread, measures what they hold in processes of their own, and writes
``benchmarks/results/localization/head.json``. It takes minutes, most of them to convert.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from movinet_edge.benchmarks.machine import describe_machine, tool_versions
from movinet_edge.benchmarks.record import Machine
from movinet_edge.benchmarks.sgalign import Naive
from movinet_edge.benchmarks.slowfast import NAMES
from movinet_edge.benchmarks.stats import spread
from movinet_edge.bundle import SCORES, FormatName, ModelFile, Record, TensorSpec
from movinet_edge.child import run_module
from movinet_edge.export.facts import graph_facts_of
from movinet_edge.export.model_files import LAYOUTS, SUFFIX, file_record
from movinet_edge.export.step_module import StepConfig, StepModule
from movinet_edge.export.to_litert import to_litert
from movinet_edge.export.to_onnx import to_onnx
from movinet_edge.models.gtad import GTad, Localize
from movinet_edge.models.gtad_align import SGAlign
from movinet_edge.models.gtad_deploy import FEATURES, DeployGTad, head_part
from movinet_edge.models.gtad_samplers import Sampled
from movinet_edge.models.gtad_table import CHANNELS, GTadArch, gtad_arch
from movinet_edge.runtime.engines import Buffers, Engine, backend_named
from movinet_edge.streaming.deploy import Layout, Part

RESULT = Path(__file__).resolve().parents[1] / "benchmarks/results/localization/head.json"
ROUNDS = 15
ENGINES: dict[FormatName, str] = {"onnx": "onnxruntime", "tflite": "litert"}


class HeadPoint(Record):
    """One file. Medians in ms; `held_bytes` is what loading and a run add to a process's memory.

    `difference` is the greatest from PyTorch's scores, which are in 0..1; `partitions` are
    XNNPACK's (None: of other formats).
    """

    file_bytes: int
    ms: float
    held_bytes: int
    difference: float
    max_rank: int
    partitions: int | None


class HeadPair(Record):
    """`ours` against `naive` on one engine; `faster` is the median of ratios by round."""

    engine: str
    ours: HeadPoint
    naive: HeadPoint
    faster: float


class HeadRecord(Record):
    """Both heads on all engines, one thread, one window."""

    snippets: int
    durations: int
    features: int
    bins: tuple[int, int]
    threads: int
    machine: Machine
    versions: dict[str, str]
    pairs: tuple[HeadPair, ...]


class NaiveAlign(nn.Module):
    """The whole map of samples and the first convolution over it, [1, outputs, D, T]."""

    groups = ()

    def __init__(self, align: SGAlign):
        super().__init__()
        anchors = align.arch.anchors()
        self.size, self.bias = (anchors.durations, anchors.snippets), align.bias
        near, context = Naive(align, anchors).parts
        self.register_buffer("near", near)
        self.register_buffer("context", context)
        weight = torch.cat([align.features, align.context], 1).detach().flatten(0, 1)
        self.register_buffer("kernel", weight.t()[..., None, None].contiguous())

    def forward(self, x: Tensor, around: Tensor, outside: bool) -> Sampled:
        sampled = [
            (values[0].t() @ self.get_buffer(name)).view(CHANNELS, -1, *self.size)
            for values, name in ((x, "near"), (around, "context"))
        ]
        whole = torch.cat(sampled, 1).flatten(0, 1)
        return [nn.functional.conv2d(whole[None], self.get_buffer("kernel"), self.bias)], None


class NaiveLocalize(nn.Module):
    """The published convolutions over the map, [1, D, T, 2]."""

    def __init__(self, localize: Localize):
        super().__init__()
        self.localize, self.mixes = localize, False

    def forward(self, maps: list[Tensor], outside: Tensor | None) -> Tensor:
        narrow, answer = self.localize.narrow, self.localize.answer
        x = torch.relu(nn.functional.conv2d(maps[0].relu(), _kernel(narrow), narrow.bias))
        for conv in (self.localize.first, self.localize.second):
            x = torch.relu(conv(x))
        x = nn.functional.conv2d(x, _kernel(answer), answer.bias)
        return torch.sigmoid(x.permute(0, 2, 3, 1))


def _kernel(dense: nn.Linear) -> Tensor:
    return dense.weight[:, :, None, None]


def naive_part(head: GTad, layout: Layout) -> Part:
    """The graph of a head that samples as published."""

    def body() -> nn.Module:
        made = DeployGTad(head, None, layout)
        made.align = NaiveAlign(head.align)  # type: ignore[assignment]
        made.localize = NaiveLocalize(head.localize)  # type: ignore[assignment]
        return made

    plain = head_part(head, None, layout)
    return Part("head", body, (), 0, frame=False, features=plain.features, whole=False)


@dataclass
class Contestant:
    """A converted head that is loaded, its inputs filled, and the samples of its times in ms."""

    path: Path
    file: ModelFile
    engine: Engine
    run: Callable[[], None]
    outputs: Buffers
    ms: list[float] = field(default_factory=list)

    def time(self) -> None:
        start = time.perf_counter_ns()
        self.run()
        self.ms.append((time.perf_counter_ns() - start) / 1e6)


def convert(part: Part, fmt: FormatName, path: Path) -> ModelFile:
    """Write a head's graph, and its record."""
    step = StepModule(part.body(), part, StepConfig("fresh", LAYOUTS[fmt], (1, 1))).eval()
    if fmt == "onnx":
        to_onnx(step, path, {})
    else:
        to_litert(step, path)
    sample = step.sample()
    with torch.no_grad():
        results = step(**sample)
    inputs = [TensorSpec(name=n, role="output", shape=tuple(x.shape)) for n, x in sample.items()]
    outputs = [TensorSpec(name=n, role="output", shape=tuple(x.shape)) for n, x in results.items()]
    return file_record(path, fmt, "fp32", inputs, outputs)


def loaded(path: Path, file: ModelFile, engine_name: str, window: np.ndarray) -> Contestant:
    """A file on an engine, one thread, with a window [1, T, C] in its input."""
    engine = backend_named(engine_name).load(path, file, 1)
    inputs = {spec.name: engine.allocate(spec) for spec in file.inputs}
    outputs = {spec.name: engine.allocate(spec) for spec in file.outputs}
    inputs[FEATURES].array[...] = window
    return Contestant(path, file, engine, engine.bind(inputs, outputs), outputs)


def held_bytes(path: Path, file: ModelFile, engine: str) -> int:
    """What loading and running a file adds to the memory of a process."""
    record = path.with_suffix(".json")
    record.write_text(file.model_dump_json())
    done = run_module("movinet_edge.benchmarks.head_memory", str(path), str(record), engine)
    if done.returncode:
        raise RuntimeError(done.stderr)
    return int(done.stdout.split()[-1])


def _difference(one: Contestant, head: GTad, window: np.ndarray) -> float:
    with torch.no_grad():
        scores = head(torch.from_numpy(window).transpose(1, 2))
    anchors, errors = head.arch.anchors(), []
    for name, wanted in zip(SCORES, scores, strict=True):
        got = one.outputs[name].array
        rows = anchors.as_rows(got) if got.ndim == 3 else got
        errors.append(float(np.abs(rows - wanted.numpy()).max()))
    return max(errors)


def compare(head: GTad, fmt: FormatName, folder: Path, rounds: int) -> HeadPair:
    """Convert both heads to a format and time them in turn."""
    engine, layout = ENGINES[fmt], LAYOUTS[fmt]
    rng = np.random.default_rng(0)
    window = rng.standard_normal((1, head.arch.snippets, head.arch.features)).astype(np.float32)
    contestants = []
    for name, part in (
        ("ours", head_part(head, None, layout)),
        ("naive", naive_part(head, layout)),
    ):
        path = folder / f"{name}.{SUFFIX[fmt]}"
        file = convert(part, fmt, path)
        contestants.append(loaded(path, file, engine, window))
    for _ in range(rounds + 1):
        for contestant in contestants:
            contestant.time()
    points = []
    for contestant in contestants:
        del contestant.ms[0]  # the first round warms up
        facts = graph_facts_of(contestant.path, contestant.file)
        points.append(
            HeadPoint(
                file_bytes=contestant.file.bytes,
                ms=float(np.median(contestant.ms)),
                held_bytes=held_bytes(contestant.path, contestant.file, engine),
                difference=_difference(contestant, head, window),
                max_rank=facts.max_rank,
                partitions=facts.partitions,
            )
        )
    ours, naive = contestants
    return HeadPair(
        engine=engine,
        ours=points[0],
        naive=points[1],
        faster=spread(np.divide(naive.ms, ours.ms)).p50,
    )


def measure(arch: GTadArch, rounds: int = ROUNDS) -> HeadRecord:
    """Compare both heads on all engines, with random weights and features."""
    torch.manual_seed(0)
    head = GTad(arch).eval()
    with tempfile.TemporaryDirectory() as folder:
        pairs = tuple(compare(head, fmt, Path(folder), rounds) for fmt in ENGINES)
    return HeadRecord(
        snippets=arch.snippets,
        durations=arch.durations,
        features=arch.features,
        bins=(arch.bins, arch.context_bins),
        threads=1,
        machine=describe_machine(None),
        versions=tool_versions(),
        pairs=pairs,
    )


def head_table() -> str:
    """Markdown: a row per engine, from the committed record."""
    lines = [
        "| engine | file, MB | ms per window | memory, MB | published way: file | ms | memory "
        "| times faster |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for pair in read().pairs:
        cells = [
            f"{point.file_bytes / 1e6:.1f} | {point.ms:.0f} | {point.held_bytes / 1e6:.0f}"
            for point in (pair.ours, pair.naive)
        ]
        lines.append(f"| {NAMES[pair.engine]} | {' | '.join(cells)} | {pair.faster:.1f} |")
    return "\n".join(lines)


def read() -> HeadRecord:
    """The committed record."""
    return HeadRecord.model_validate_json(RESULT.read_text("utf-8"))


def main() -> None:
    torch.set_num_threads(1)
    record = measure(gtad_arch("activitynet"))
    RESULT.parent.mkdir(parents=True, exist_ok=True)
    RESULT.write_text(record.model_dump_json(indent=1) + "\n", "utf-8")
    print(record.model_dump_json(indent=1))


if __name__ == "__main__":
    main()
