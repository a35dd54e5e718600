"""ExecuTorch with XNNPACK: the checkpoint's step, lowered as its documentation says."""

from __future__ import annotations

import importlib.metadata
from collections.abc import Callable
from pathlib import Path

import torch
from executorch.extension.pybindings import portable_lib
from torch import Tensor

from movinet_edge.bundle import Bundle, Graph, ModelFile, TensorSpec
from movinet_edge.errors import BadInput
from movinet_edge.runtime.engines import Buffer, Buffers
from movinet_edge.runtime.quiet import quiet


def convert(bundle: Bundle, graph: Graph, file: ModelFile, target: Path) -> None:
    """Write `target` from the bundle's checkpoint, with the inputs and outputs of `file`."""
    # Running needs none of these.
    from executorch.backends.xnnpack.partition.xnnpack_partitioner import XnnpackPartitioner
    from executorch.exir import ExecutorchBackendConfig, to_edge_transform_and_lower
    from executorch.exir.passes import MemoryPlanningPass

    from movinet_edge.export.step_of import step_of

    if file.precision != "fp32":
        raise BadInput("it is lowered from the checkpoint, in floats only")
    step = step_of(bundle, graph, file)
    with quiet(), torch.no_grad():
        program = torch.export.export(step, (), kwargs=step.sample())
        lowered = to_edge_transform_and_lower(program, partitioner=[XnnpackPartitioner()])
        # Inputs are read where the host has them.
        planning = MemoryPlanningPass(alloc_graph_input=False)
        made = lowered.to_executorch(ExecutorchBackendConfig(memory_planning_pass=planning))
    target.write_bytes(made.buffer)


class ExecuTorchEngine:
    """A lowered step; its outputs are copied to the host's buffers."""

    loaded = 0

    def __init__(self, path: Path, file: ModelFile, threads: int):
        self.version = importlib.metadata.version("executorch")
        if portable_lib._threadpool_get_thread_count() != threads:
            if ExecuTorchEngine.loaded:
                raise ValueError("it has one number of threads per process; give one --threads")
            portable_lib._unsafe_reset_threadpool(threads)
        self._module = portable_lib._load_for_executorch(str(path))
        self._file = file
        ExecuTorchEngine.loaded += 1

    def allocate(self, spec: TensorSpec) -> Buffer:
        return Buffer(spec)

    def close(self) -> None:
        ExecuTorchEngine.loaded -= 1
        del self._module

    def bind(self, inputs: Buffers, outputs: Buffers) -> Callable[[], None]:
        # By position: the file's names are in the order in which the step takes and gives them.
        given = [_tensor(inputs[spec.name]) for spec in self._file.inputs]
        taken = [_tensor(outputs[spec.name]) for spec in self._file.outputs]
        module = self._module

        def run() -> None:
            for target, value in zip(
                taken, module.forward(given, clone_outputs=False), strict=True
            ):
                target.copy_(value)

        return run


def _tensor(buffer: Buffer) -> Tensor:
    return torch.from_numpy(buffer.array)
