"""Step modules to ONNX: the dynamo exporter at opset 18, simplified by onnxsim."""

from __future__ import annotations

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
        model, same = onnxsim.simplify(program.model_proto)
    if not same:
        raise RuntimeError("onnxsim changed what the graph computes")
    # Names of nodes and stack traces differ between runs; a re-export shall be bit-identical.
    for node in model.graph.node:
        del node.metadata_props[:]
    for value in [*model.graph.value_info, *model.graph.input, *model.graph.output]:
        del value.metadata_props[:]
    del model.graph.metadata_props[:]
    model.graph.name = "step"
    model.producer_version = ""
    onnx.helper.set_model_props(model, metadata)
    path.write_bytes(model.SerializeToString(deterministic=True))
