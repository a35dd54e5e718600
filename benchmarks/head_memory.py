"""How much memory a process needs for a head: loading it and one run.

``python -m movinet_edge.benchmarks.head_memory FILE RECORD ENGINE`` prints bytes.
"""

from __future__ import annotations

import sys
from pathlib import Path

from movinet_edge.benchmarks.machine import memory_mb
from movinet_edge.bundle import ModelFile
from movinet_edge.runtime.engines import backend_named


def peak_bytes() -> int:
    """The most that this process held so far (Linux; `ru_maxrss` begins with the parent's)."""
    peak = memory_mb("VmHWM")
    if peak is None:
        raise SystemExit("the system does not tell how much memory a process held")
    return round(peak * 1e6)


def main() -> None:
    path, record, engine_name = sys.argv[1:]
    file = ModelFile.model_validate_json(Path(record).read_text())
    backend = backend_named(engine_name)
    __import__(backend.factory.partition(":")[0])  # the engine's library is not the head's
    before = peak_bytes()
    engine = backend.load(Path(path), file, 1)
    inputs = {spec.name: engine.allocate(spec) for spec in file.inputs}
    outputs = {spec.name: engine.allocate(spec) for spec in file.outputs}
    engine.bind(inputs, outputs)()
    print(peak_bytes() - before)


if __name__ == "__main__":
    main()
