"""The module that a file of a bundle was converted from, made again from the checkpoint in it."""

from __future__ import annotations

from movinet_edge.bundle import Bundle, Graph, ModelFile
from movinet_edge.checkpoints.native import load_checkpoint
from movinet_edge.errors import BadInput
from movinet_edge.export.model_files import LAYOUTS
from movinet_edge.export.profiles import PROFILES
from movinet_edge.export.step_module import StepConfig, StepModule
from movinet_edge.models.registry import deploy_parts


def step_of(bundle: Bundle, graph: Graph, file: ModelFile) -> StepModule:
    """What `file` was converted from, in floats: with its inputs and outputs, in their order.

    Raises:
        BadInput: the bundle holds no checkpoint of the graph.
    """
    manifest, contract = bundle.manifest, bundle.manifest.preprocessing
    holders = [graph, *(g for g in manifest.graphs if g.name == manifest.reference)]
    held = [f for holder in holders for f in holder.files if f.format == "torch"]
    if not held:
        raise BadInput(f"{bundle.path} holds no checkpoint of {graph.name}; export it again")
    checkpoint = load_checkpoint(bundle.file(held[0]))
    size = contract.height, contract.width
    parts = deploy_parts(checkpoint.model, size, graph.frames, manifest.renewal)
    part = parts[0] if len(parts) == 1 else next(p for p in parts if p.name == graph.name)
    config = StepConfig(
        graph.form,
        LAYOUTS[file.format],
        size,
        graph.frames,
        checkpoint.arch.causal,
        any(spec.role == "frame" and spec.dtype == "uint8" for spec in file.inputs),
        manifest.output == "probabilities",
        PROFILES[file.profile].separate,
    )
    return StepModule(part.body(), part, config).eval()
