"""A .tflite file as a graph of named tensors: what quantization has to know and to mend."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ai_edge_litert import schema_py_generated as schema
from ai_edge_quantizer.utils import tfl_flatbuffer_utils as flatbuffer

OPERATORS = {v: k for k, v in vars(schema.BuiltinOperator).items() if isinstance(v, int)}
CUSTOM_PREFIX = "custom:"


def operator_name(code: Any) -> str:
    """The name of an operator code, ``custom:...`` for what is not built in."""
    # Old files hold the code in a byte, new ones in a word; the larger is the right one.
    number = max(code.builtinCode, code.deprecatedBuiltinCode)
    if OPERATORS.get(number) == "CUSTOM":
        return CUSTOM_PREFIX + (code.customCode or b"").decode(errors="replace")
    return OPERATORS.get(number, f"{CUSTOM_PREFIX}builtin {number}")


@dataclass(frozen=True)
class Operator:
    """`inputs` and `outputs` are numbers of tensors; `record` is the flatbuffer's."""

    kind: str
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]
    record: Any

    @property
    def activation(self) -> int:
        """The fused activation, a `schema.ActivationFunctionType`."""
        return int(getattr(self.record.builtinOptions, "fusedActivationFunction", 0))


class LitertGraph:
    """The one subgraph of a step model.

    `inputs` and `outputs` map the names of the signature to numbers of tensors.
    """

    def __init__(self, model: Path | bytes):
        self.model = flatbuffer.read_model(model)
        (self.graph,), (self.signature,) = self.model.subgraphs, self.model.signatureDefs
        kinds = [operator_name(code) for code in self.model.operatorCodes]
        self.operators = [
            Operator(
                kinds[op.opcodeIndex],
                tuple(int(t) for t in op.inputs if t >= 0),
                tuple(map(int, op.outputs)),
                op,
            )
            for op in self.graph.operators
        ]

    @property
    def inputs(self) -> dict[str, int]:
        return {t.name.decode(): int(t.tensorIndex) for t in self.signature.inputs}

    @property
    def outputs(self) -> dict[str, int]:
        return {t.name.decode(): int(t.tensorIndex) for t in self.signature.outputs}

    def name(self, tensor: int) -> str:
        return str(self.graph.tensors[tensor].name.decode())

    def label(self, operator: Operator) -> str:
        """Where an operator comes from, a path of modules; what emits an output is named so.

        What was fused has the names of all its parts, the last operation first.
        """
        emitted = set(self.outputs.values()).intersection(operator.outputs)
        sources = operator.inputs if emitted else operator.outputs
        names = [self.name(t).split(";")[0] for t in sources]
        return next((name for name in names if name.startswith("body/")), names[0])

    def is_float(self, tensor: int) -> bool:
        return bool(self.graph.tensors[tensor].type == schema.TensorType.FLOAT32)

    def quantization(self, tensor: int) -> tuple[float, int] | None:
        """Scale and zero point of an integer tensor."""
        found = self.graph.tensors[tensor].quantization
        if self.is_float(tensor) or found is None or found.scale is None:
            return None
        return float(found.scale[0]), int(found.zeroPoint[0])

    def activations(self) -> list[int]:
        """All float tensors that are computed or come in."""
        computed = {tensor for op in self.operators for tensor in op.outputs}
        return sorted(t for t in computed | set(self.inputs.values()) if self.is_float(t))

    def after(self, tensors: Collection[int]) -> set[int]:
        """`tensors` and all that is computed from any of them."""
        found = set(tensors)
        for op in self.operators:
            if found.intersection(op.inputs):
                found.update(op.outputs)
        return found

    def before(self, tensors: Collection[int]) -> set[int]:
        """`tensors` and all that they are computed from."""
        found = set(tensors)
        for op in reversed(self.operators):
            if found.intersection(op.outputs):
                found.update(op.inputs)
        return found

    def users(self, tensor: int) -> Iterator[Operator]:
        return (op for op in self.operators if tensor in op.inputs)

    def is_used(self, tensor: int) -> bool:
        """Whether an operator or an output needs it."""
        return next(self.users(tensor), None) is not None or tensor in self.outputs.values()

    def producer(self, tensor: int) -> Operator | None:
        return next((op for op in self.operators if tensor in op.outputs), None)

    def remove(self, operators: Collection[Operator]) -> None:
        gone = {id(op.record) for op in operators}
        self.graph.operators = [op for op in self.graph.operators if id(op) not in gone]
        self.operators = [op for op in self.operators if id(op.record) not in gone]

    def move_input(self, name: str, tensor: int) -> None:
        """Let the graph take `tensor` in under this name."""
        self._move(self.graph.inputs, self.signature.inputs, name, tensor)

    def move_output(self, name: str, tensor: int, listed: int | None = None) -> None:
        """Let the graph emit `tensor` under this name; `listed` is what it lists as output now."""
        self._move(self.graph.outputs, self.signature.outputs, name, tensor, listed)

    def _move(
        self, ends: Any, signature: Any, name: str, tensor: int, listed: int | None = None
    ) -> None:
        entry = next(t for t in signature if t.name.decode() == name)
        place = [int(t) for t in ends].index(int(entry.tensorIndex) if listed is None else listed)
        ends[place] = entry.tensorIndex = tensor

    def write(self, path: Path) -> None:
        # Packing the object model without this writer damages files whose buffers lie outside.
        flatbuffer.write_model(self.model, str(path))
