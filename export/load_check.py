"""Load a bundle's files and take one step, in a process of its own: some bad files abort theirs.

``python -m movinet_edge.export.load_check BUNDLE BACKEND PRECISION``
"""

from __future__ import annotations

import sys

import numpy as np

from movinet_edge.bundle import Bundle
from movinet_edge.child import run_module
from movinet_edge.errors import BadInput
from movinet_edge.runtime import Stream
from movinet_edge.runtime.engines import usable_backends
from movinet_edge.runtime.segments import SegmentStream


def check_loads(bundle: Bundle) -> None:
    """Raise `BadInput` unless every file of a bundle can be run by the engines installed here."""
    files = [file for graph in bundle.manifest.graphs for file in graph.files]
    for backend in usable_backends({file.format for file in files} - {"torch"}):
        for precision in bundle.manifest.precisions(backend.format):
            arguments = str(bundle.root), backend.name, precision
            done = run_module("movinet_edge.export.load_check", *arguments)
            if done.returncode != 0:
                lines = done.stderr.strip().splitlines()
                reason = lines[-1] if lines else f"it ended with {done.returncode}"
                raise BadInput(
                    f"{backend.name} cannot run the {precision} file that was written ({reason}); "
                    "export another --precision, or leave parts in floats with --keep-float"
                )


def main() -> None:
    path, backend, precision = sys.argv[1:]
    bundle = Bundle(path)
    if bundle.manifest.localization is not None:
        with SegmentStream(bundle, backend, precision) as segments:
            for runner in segments.graphs.values():
                runner.run()
        return
    contract = bundle.manifest.preprocessing
    with Stream(bundle, backend, precision) as stream:
        frame = np.zeros((contract.height, contract.width, 3), np.uint8)
        # Whole clips answer at their end.
        for _ in range(max(graph.frames for graph in bundle.manifest.graphs)):
            stream.step(frame)
        for runner in stream.graphs.values():
            if not runner.steps:  # nothing has asked for it yet
                runner.run()


if __name__ == "__main__":
    main()
