"""An ONNX graph by its names: who makes a tensor, who reads it, what depends on what."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import NodeProto, TensorProto, numpy_helper


class OnnxGraph:
    """A model in memory; the look-ups follow every change of its nodes."""

    def __init__(self, model: onnx.ModelProto):
        self.model, self.graph = model, model.graph

    @classmethod
    def read(cls, path: Path) -> OnnxGraph:
        """The model in a file."""
        return cls(onnx.load(path))

    def write(self, path: Path, like: onnx.ModelProto) -> None:
        """Check the model and write it with the metadata of `like`: same content, same bytes."""
        model, graph = self.model, self.graph
        del graph.value_info[:], model.metadata_props[:]
        model.metadata_props.extend(like.metadata_props)
        graph.name = like.graph.name
        model.producer_name, model.producer_version = like.producer_name, like.producer_version
        onnx.checker.check_model(model, full_check=True)
        path.write_bytes(model.SerializeToString(deterministic=True))

    @property
    def nodes(self) -> list[NodeProto]:
        return list(self.graph.node)

    @property
    def inputs(self) -> list[str]:
        return [value.name for value in self.graph.input]

    @property
    def outputs(self) -> list[str]:
        return [value.name for value in self.graph.output]

    def constants(self) -> dict[str, TensorProto]:
        """Initializers by name."""
        return {tensor.name: tensor for tensor in self.graph.initializer}

    def makers(self) -> dict[str, NodeProto]:
        """The node that makes each tensor."""
        return {name: node for node in self.graph.node for name in node.output}

    def readers(self, tensor: str) -> list[NodeProto]:
        """The nodes that read a tensor."""
        return [node for node in self.graph.node if tensor in node.input]

    def value(self, constant: str) -> NDArray[np.float32]:
        """What an initializer holds."""
        return numpy_helper.to_array(self.constants()[constant])

    def replace(self, constant: str, new: TensorProto) -> None:
        """Put another initializer in the place of one."""
        next(t for t in self.graph.initializer if t.name == constant).CopyFrom(new)

    def prepend(self, nodes: Iterable[NodeProto]) -> None:
        """Add nodes that read nothing but constants."""
        everything = [*nodes, *self.graph.node]
        del self.graph.node[:]
        self.graph.node.extend(everything)

    def rename(self, tensor: str, name: str) -> None:
        """Call a tensor otherwise, wherever nodes make or read it."""
        for node in self.graph.node:
            node.input[:] = [name if x == tensor else x for x in node.input]
            node.output[:] = [name if x == tensor else x for x in node.output]

    def remove(self, node: NodeProto) -> None:
        self.graph.node.remove(node)

    def weights(self) -> dict[str, int]:
        """Axis of the output channels of every weight of a convolution or matrix product.

        Only constants of rank 2 and more that nobody reads otherwise.
        """
        constants, found = self.constants(), {}
        for node in self.graph.node:
            axes = {"Conv": 0, "MatMul": 1, "Gemm": 0 if _attribute(node, "transB") else 1}
            if node.op_type not in axes or (name := node.input[1]) not in constants:
                continue
            tensor, readers = constants[name], self.readers(name)
            if len(tensor.dims) >= 2 and all(r.op_type == node.op_type for r in readers):
                found[name] = axes[node.op_type]
        return found

    def unshare(self) -> None:
        """Give every convolution and matrix product a weight of its own."""
        for name in self.weights():
            for number, reader in enumerate(self.readers(name)[1:], 1):
                own = TensorProto()
                own.CopyFrom(self.constants()[name])
                own.name = f"{name}.{number}"
                self.graph.initializer.append(own)
                reader.input[1] = own.name

    def downstream(self, tensor: str) -> set[str]:
        """Tensors that depend on `tensor`, and itself."""
        found = {tensor}
        for node in self.graph.node:
            if found.intersection(node.input):
                found.update(node.output)
        return found

    def upstream(self, tensor: str) -> set[str]:
        """Tensors on which `tensor` depends, and itself."""
        found = {tensor}
        for node in reversed(self.graph.node):
            if found.intersection(node.output):
                found.update(node.input)
        return found

    def depending_only_on(self, tensor: str) -> set[str]:
        """Tensors made of nothing but `tensor` and constants, and itself."""
        found, constants = {tensor}, set(self.constants()) | {""}
        for node in self.graph.node:
            if found.intersection(node.input) and found | constants >= set(node.input):
                found.update(node.output)
        return found - constants


def _attribute(node: NodeProto, name: str) -> int:
    return next((a.i for a in node.attribute if a.name == name), 0)
