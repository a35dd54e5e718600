"""Step modules to ONNX: the dynamo exporter at opset 18, simplified by onnxsim."""

from __future__ import annotations

import ast
import re
from collections import Counter
from pathlib import Path

import onnx
import onnxsim
import torch

from movinet_edge.export.step_module import StepModule
from movinet_edge.runtime.quiet import quiet

OPSET = 18


def to_onnx(step: StepModule, path: Path, metadata: dict[str, str]) -> None:
    """Write `step` (NCHW states) to `path`, with `metadata` in the file's metadata_props."""
    sample = step.sample()
    with quiet(), torch.no_grad():
        outputs = list(step(**sample))
        program = torch.onnx.export(
            step,
            (),
            kwargs=sample,
            dynamo=True,
            opset_version=OPSET,
            input_names=list(sample),
            output_names=outputs,
            verbose=False,
        )
        assert program is not None
        traced = program.model_proto
        name_nodes(traced.graph)
        model, same = onnxsim.simplify(traced)
    if not same:
        raise RuntimeError("onnxsim changed what the graph computes")
    # Stack traces differ between runs; a re-export shall be bit-identical.
    for node in model.graph.node:
        del node.metadata_props[:]
    for value in [*model.graph.value_info, *model.graph.input, *model.graph.output]:
        del value.metadata_props[:]
    del model.graph.metadata_props[:]
    model.graph.name = "step"
    model.producer_version = ""
    onnx.helper.set_model_props(model, metadata)
    path.write_bytes(model.SerializeToString(deterministic=True))


def name_nodes(graph: onnx.GraphProto) -> None:
    """Name nodes after the module they come from: ``body.blocks.b1_l0.expand/conv2d``.

    The exporter numbers nodes across the graph and keeps the path in their metadata, which the
    simplifier drops, whereas it keeps names. Operations of the same kind in one module are told
    apart by their order: ``body.blocks.b1_l0/cat``, ``body.blocks.b1_l0/cat_1``. What belongs to
    no module, the clock and the frame's layout, has no path: ``add``, ``reciprocal``, ``permute``.
    """
    seen: Counter[str] = Counter()
    for node in graph.node:
        props = {p.key: p.value for p in node.metadata_props}
        scopes = ast.literal_eval(props.get("pkg.torch.onnx.name_scopes", "[]"))
        *modules, operation = scopes or [node.op_type.lower()]
        kind = re.sub(r"_\d+$", "", operation)
        name = "/".join(part for part in (modules[-1] if modules else "", kind) if part)
        node.name = f"{name}_{seen[name]}" if seen[name] else name
        seen[name] += 1
