"""Step modules to TFLite with litert-torch; TensorFlow is not needed."""

from __future__ import annotations

import re
import zipfile
from collections.abc import Mapping, Sequence
from itertools import chain, count
from pathlib import Path

import torch

from movinet_edge.export.litert_graph import LitertGraph
from movinet_edge.export.step_module import StepModule
from movinet_edge.runtime.quiet import quiet

# What litert-torch calls a module: its class with all packages, "_" and its name (the root: none).
MODULE = re.compile(r"^(?:\w+\.)+[A-Z][A-Za-z0-9]*(?:_(\w+))?$")


def to_litert(step: StepModule, path: Path) -> None:
    """Write `step` (NHWC states) to `path`."""
    for tensor in (*step.parameters(), *step.buffers()):
        # Of others the converter makes copies, and tells these apart by addresses used again.
        tensor.data = tensor.data.contiguous()
    with quiet():
        import litert_torch

        litert_torch.config.show_progress = False
        # The greedy partitioner is what leaves no TRANSPOSE behind.
        litert_torch.config.layout_optimize_partitioner = "GREEDY"
        with torch.no_grad():
            litert_torch.convert(step.eval(), sample_kwargs=step.sample()).export(str(path))
    graph = LitertGraph(path)
    names = distinct([short_name(tensor.name.decode()) for tensor in graph.graph.tensors])
    for tensor, name in zip(graph.graph.tensors, names, strict=True):
        tensor.name = name.encode()
    for operator in graph.operators:
        # Keeping the rank of a matrix changes nothing, but NNAPI can do it from Android 11 on only.
        if (
            operator.kind == "FULLY_CONNECTED"
            and len(graph.graph.tensors[operator.inputs[0]].shape) == 2
        ):
            operator.record.builtinOptions.keepNumDims = False
    graph.write(path)


def short_name(name: str) -> str:
    """A tensor's name as a path of modules, ``body/b1_l0/expand;2``: without their classes.

    Long names are a twentieth of a small model's file, and nobody can read them.
    """
    pieces = []
    for path in name.split(";"):
        parts = [MODULE.sub(r"\1", part) for part in path.split("/")]
        pieces.append("/".join(filter(None, parts)))
    return ";".join(pieces) or "step"


def distinct(names: Sequence[str]) -> list[str]:
    """The same, those that were there before with a number behind: the quantizer tells by names."""
    found: dict[str, None] = {}
    for name in names:
        numbered = chain([name], (f"{name};{number}" for number in count(2)))
        found[next(other for other in numbered if other not in found)] = None
    return list(found)


def attach(path: Path, attachments: Mapping[str, str]) -> None:
    """Append texts by name as a zip archive, as TFLite metadata does.

    Engines ignore what follows the model, and any unzip program lists it.
    """
    with zipfile.ZipFile(path, "a") as archive:
        for name, text in attachments.items():
            archive.writestr(zipfile.ZipInfo(name, (1980, 1, 1, 0, 0, 0)), text)
