"""How much memory a process needs for a head: loading it and one run.

``python -m movinet_edge.benchmarks.head_memory FILE RECORD ENGINE`` prints bytes.
"""

from __future__ import annotations

import resource
import sys
from pathlib import Path

from movinet_edge.bundle import ModelFile
from movinet_edge.runtime.engines import backend_named


def peak_bytes() -> int:
    """The most that this process held so far."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


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
