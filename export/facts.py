"""Facts of a model file: operators, ranks, names, and what the engine makes of it."""

from __future__ import annotations

import importlib.util
import zipfile
from collections import Counter
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from movinet_edge.bundle import Bundle, FormatName, ModelFile
from movinet_edge.export.profiles import profile_rows
from movinet_edge.export.verify_record import Check, GraphFacts
from movinet_edge.runtime.quiet import quiet

# The largest rank that GPU and NPU delegates of phones take.
MAX_RANK = 4
TFLITE_3D = {"CONV_3D", "CONV_3D_TRANSPOSE"}
CUSTOM_PREFIX = "custom:"

Names = tuple[set[str], set[str]]


def graph_facts(bundle: Bundle) -> tuple[list[GraphFacts], list[Check], list[str]]:
    """The facts of every model file, the checks on them, and notes on what was left out."""
    facts, checks, notes = [], [], []
    for graph in bundle.manifest.graphs:
        for file in graph.files:
            if file.format not in READERS:
                continue
            package, read = READERS[file.format]
            if importlib.util.find_spec(package) is None:
                notes.append(f"no graph facts of {file.path}: {package} is not installed")
                continue
            try:
                found, more = read(bundle.file(file), file)
                rows, more_notes = profile_rows(bundle.file(file), file)
            except Exception as error:  # parsers of damaged files raise whatever they trip over
                checks.append(_check(file, "readable", False, type(error).__name__))
                continue
            facts.append(found)
            checks += [*more, *(_check(file, *row) for row in rows)]
            notes += more_notes
    return facts, checks, notes


def graph_facts_of(path: Path, file: ModelFile) -> GraphFacts:
    """The facts of one model file."""
    return READERS[file.format][1](path, file)[0]


def tflite_facts(path: Path, file: ModelFile) -> tuple[GraphFacts, list[Check]]:
    """Facts of a .tflite file, read from the file itself; only the last two need an engine."""
    from ai_edge_litert import schema_py_generated as schema

    model = schema.ModelT.InitFromObj(schema.Model.GetRootAs(path.read_bytes(), 0))
    names = {v: k for k, v in vars(schema.BuiltinOperator).items() if isinstance(v, int)}
    kinds = [_tflite_operator(code, names) for code in model.operatorCodes]
    census = Counter(kinds[op.opcodeIndex] for g in model.subgraphs for op in g.operators)
    ranks = [0 if t.shape is None else len(t.shape) for g in model.subgraphs for t in g.tensors]
    (signature, *_) = model.signatureDefs or [None]
    kept: Names = (set(), set())
    if signature is not None:
        kept = _tflite_names(signature.inputs), _tflite_names(signature.outputs)
    partitions, accelerated = _tflite_engine_facts(path)
    facts = GraphFacts(
        path=file.path,
        format=file.format,
        precision=file.precision,
        sha256=file.sha256,
        bytes=file.bytes,
        operators=dict(census.most_common()),
        max_rank=max(ranks, default=0),
        transposes=census["TRANSPOSE"],
        partitions=partitions,
        fully_accelerated=accelerated,
        embedded=_appended(path),
    )
    solid = sum(census[name] for name in TFLITE_3D)
    return facts, _checks(file, facts, solid, kept)


def onnx_facts(path: Path, file: ModelFile) -> tuple[GraphFacts, list[Check]]:
    """Facts of an .onnx file."""
    import onnx

    model = onnx.shape_inference.infer_shapes(onnx.load(path))
    graph = model.graph
    standard = {"", "ai.onnx"}
    census = Counter(
        node.op_type if node.domain in standard else f"{CUSTOM_PREFIX}{node.domain}.{node.op_type}"
        for node in graph.node
    )
    weights = {w.name: len(w.dims) for w in graph.initializer}
    values = [*graph.input, *graph.output, *graph.value_info]
    ranks = [len(v.type.tensor_type.shape.dim) for v in values] + list(weights.values())
    convolutions = [n for n in graph.node if n.op_type in ("Conv", "ConvTranspose")]
    solid = sum(weights.get(node.input[1], 0) > MAX_RANK for node in convolutions)
    facts = GraphFacts(
        path=file.path,
        format=file.format,
        precision=file.precision,
        sha256=file.sha256,
        bytes=file.bytes,
        operators=dict(census.most_common()),
        max_rank=max(ranks, default=0),
        transposes=census["Transpose"],
        opset=next(o.version for o in model.opset_import if o.domain in standard),
        embedded=tuple(sorted(p.key for p in model.metadata_props)),
    )
    inputs = {v.name for v in graph.input} - set(weights)
    return facts, _checks(file, facts, solid, (inputs, {v.name for v in graph.output}))


Reader = Callable[[Path, ModelFile], tuple[GraphFacts, list[Check]]]
READERS: dict[FormatName, tuple[str, Reader]] = {
    "tflite": ("ai_edge_litert", tflite_facts),
    "onnx": ("onnx", onnx_facts),
}


def _checks(file: ModelFile, facts: GraphFacts, solid: int, kept: Names) -> list[Check]:
    custom = [name for name in facts.operators if name.startswith(CUSTOM_PREFIX)]
    wanted = {s.name for s in file.inputs}, {s.name for s in file.outputs}
    lost = sorted((wanted[0] ^ kept[0]) | (wanted[1] ^ kept[1]))
    rows = (
        (f"rank at most {MAX_RANK}", facts.max_rank <= MAX_RANK, f"highest rank {facts.max_rank}"),
        ("no 3-D convolution", solid == 0, f"{solid} of them"),
        ("no custom operator", not custom, ", ".join(custom) or "none"),
        (
            "names as in the manifest",
            not lost,
            f"differ: {', '.join(lost)}" if lost else f"{len(kept[0])} in, {len(kept[1])} out",
        ),
    )
    return [_check(file, *row) for row in rows]


def _check(file: ModelFile, name: str, holds: bool, detail: str) -> Check:
    return Check(kind="graph", subject=file.path, name=name, holds=holds, detail=detail)


def _tflite_operator(code: Any, names: dict[int, str]) -> str:
    # Old files hold the code in a byte, new ones in a word; the larger is the right one.
    number = max(code.builtinCode, code.deprecatedBuiltinCode)
    if names.get(number) == "CUSTOM":
        return CUSTOM_PREFIX + (code.customCode or b"").decode(errors="replace")
    return names.get(number, f"{CUSTOM_PREFIX}builtin {number}")


def _tflite_names(tensors: Iterable[Any]) -> set[str]:
    return {tensor.name.decode() for tensor in tensors or ()}


def _tflite_engine_facts(path: Path) -> tuple[int | None, bool | None]:
    """XNNPACK partitions, and whether they cover the graph; None where it does not load."""
    from ai_edge_litert.compiled_model import CompiledModel, HardwareAccelerator
    from ai_edge_litert.interpreter import Interpreter

    try:
        with quiet():
            interpreter = Interpreter(str(path))
            interpreter.allocate_tensors()
            compiled = CompiledModel.from_file(str(path), HardwareAccelerator.CPU)
            accelerated = bool(compiled.is_fully_accelerated())
            del compiled  # it logs its end, too
    except (RuntimeError, ValueError):
        return None, None
    operators = interpreter._get_ops_details()
    return sum(op["op_name"] == "DELEGATE" for op in operators), accelerated


def _appended(path: Path) -> tuple[str, ...]:
    """Names in the zip archive that follows the model."""
    if not zipfile.is_zipfile(path):
        return ()
    with zipfile.ZipFile(path) as archive:
        return tuple(archive.namelist())
