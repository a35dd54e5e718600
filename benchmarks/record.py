"""What a benchmark writes down; one set of records for every runner.

Times are milliseconds, memory is 10^6 bytes, one MAC is one multiply-accumulate.
"""

from __future__ import annotations

from typing import Literal

from movinet_edge.bundle import Record


class GraphFile(Record):
    """One model file that took part, and how far its engine's delegate took it.

    `partitions` counts the delegate's parts of the graph (1: the graph was never cut);
    `fully_accelerated` is the engine's own word. Both are None where an engine has no such thing.
    """

    graph: str
    form: str
    file: str
    sha256: str
    bytes: int
    delegate: str | None = None
    partitions: int | None = None
    fully_accelerated: bool | None = None


class Subject(Record):
    """What ran. A peer is somebody else's model file, so it has no manifest.

    `macs_per_step` is an average where graphs take turns, as is `bytes_per_step`: weights, states,
    frame and answers, each as often as a step reads or writes them. `state_bytes` are those of all
    graphs.
    """

    label: str
    name: str
    kind: Literal["bundle", "peer"]
    bundle: str | None = None
    manifest_sha256: str | None = None
    backend: str
    engine: str
    engine_version: str
    precision: str | None = None
    files: tuple[GraphFile, ...]
    frames_per_step: int = 1
    macs_per_step: float | None = None
    bytes_per_step: float | None = None
    state_bytes: int | None = None


class Method(Record):
    """How it ran.

    `interleaved`: in each of the `rounds` every contestant made as many steps, in shuffled order
    (records without `rounds`: one step a round). ``cold``: each step was the first of a process.
    """

    threads: int
    warmup: int
    steps: int
    mode: Literal["back-to-back", "paced", "cold"]
    frame_rate: float | None = None
    interleaved: bool
    rounds: int | None = None


class Distribution(Record):
    """Of one quantity over the steps, in ms; percentiles interpolate linearly."""

    min: float
    p10: float
    p50: float
    p90: float
    p99: float
    mean: float


class Alone(Record):
    """Measured in a process of its own that does nothing else.

    `load_ms`: from the path to a model ready to step (engine imported, hashes checked, file
    compiled); the cold start is `load_ms` + `first_step_ms`. `peak_memory_mb` is the largest
    resident size of that process, `base_memory_mb` its size before loading; None where the
    system does not tell.
    """

    load_ms: float
    first_step_ms: float
    base_memory_mb: float | None
    peak_memory_mb: float | None


class Sustained(Record):
    """What became of a machine that went on stepping for `seconds`.

    `throttled`: the median step of the last tenth of the steps over that of the first; above 1 the
    machine slowed down. `temperatures` are pairs of seconds and degrees Celsius, of the hottest
    zone.
    """

    seconds: float
    throttled: float
    temperatures: tuple[tuple[float, float], ...] = ()


class Cold(Record):
    """Starts in fresh processes; see `Alone`. The first also fills the system's cache.

    `start_ms`: loading and first step together, from the model's path to its first answer.
    """

    processes: int
    load_ms: Distribution
    first_step_ms: Distribution
    start_ms: Distribution


class Energy(Record):
    """What a step cost, pauses of paced steps included.

    ``rapl`` counts the processor's packages, ``battery`` the whole device while nothing charges it.
    """

    source: Literal["rapl", "battery"]
    joules_per_step: float


class Clips(Record):
    """Whole clips in batches, from bytes on the device to logits there; `batch_ms` of a batch."""

    batch: int
    frames: int
    batch_ms: Distribution
    clips_per_second: float


class Measurement(Record):
    """One contestant's result.

    `step_ms`: a whole step, from the RGB frame to the answer in host memory. `engine_ms`: the
    engine's call alone (of the classic interpreter: with the copies of its tensors).
    `overhead_ms`: the median of their differences. `cpu_ms`: median CPU time of all threads.
    `late_steps`: paced steps that took longer than their frames. `energy` is None where the system
    does not tell. `cold`: with ``mode`` ``cold`` `step_ms` is of its first steps alone.
    """

    subject: Subject
    method: Method
    step_ms: Distribution
    engine_ms: Distribution
    overhead_ms: float
    cpu_ms: float
    late_steps: int | None = None
    sustained: Sustained | None = None
    cold: Cold | None = None
    energy: Energy | None = None
    clips: Clips | None = None
    alone: Alone

    @property
    def latency_ms(self) -> Distribution:
        """What was asked for: that of a step, or of a cold start."""
        return self.step_ms if self.cold is None else self.cold.start_ms


class Spread(Record):
    """Of the ratios of both medians of each round."""

    p10: float
    p50: float
    p90: float


class Comparison(Record):
    """Time per frame (of cold starts: the whole) of `label` over `baseline`'s; below 1 is faster.

    `paired` is None where the two did not run interleaved.
    """

    label: str
    baseline: str
    ratio_of_medians: float
    paired: Spread | None


class Peaks(Record):
    """What one thread can do at most, where it was measured; see `peaks`.

    `sgemm_gmacs`, `int8_gmacs`: 10^9 MACs per second of a matrix product of float32 and of 8-bit
    integers. `copy_gb_s`, `cache_copy_gb_s`: 10^9 bytes read and written per second of a copy in
    memory, and of one within a core's own cache of `cache_bytes`.
    """

    sgemm_gmacs: float | None = None
    int8_gmacs: float | None = None
    copy_gb_s: float | None = None
    cache_copy_gb_s: float | None = None
    cache_bytes: int | None = None


class Machine(Peaks):
    """Where it ran, and what it can do; None is what the system does not tell.

    `device` is what ``--device`` calls it.
    """

    device: str = "host"
    model: str | None = None
    api_level: int | None = None
    cpu: str
    architecture: str
    cores: int
    governor: str | None
    temperature_c: float | None
    os: str
    python: str | None = None


class Report(Record):
    """One run of the benchmark. `notes` says what was left out and why; `date` is UTC."""

    schema_version: Literal[1] = 1
    date: str
    machine: Machine
    tools: dict[str, str]
    seed: int
    measurements: tuple[Measurement, ...]
    comparisons: tuple[Comparison, ...]
    notes: tuple[str, ...] = ()
