"""Other engines on the weights of a bundle: what could be taken in the place of ours.

Each is a backend of the runtime like our own, so it takes part in a stream, in its plan and in the
checks as they do; its adapter is the one file that its row names. An engine that does not read a
format of the bundle has a converter, which writes its own file once before anything is timed.
"""

from __future__ import annotations

import importlib
import importlib.metadata
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

from movinet_edge.bundle import Bundle, Graph, ModelFile, sha256_of
from movinet_edge.errors import BadInput
from movinet_edge.runtime.engines import BACKENDS, Backend, Engine
from movinet_edge.runtime.graph import find_file

EXTRA = "peers"
_HERE = "movinet_edge.benchmarks"
Converter = Callable[[Bundle, Graph, ModelFile, Path], None]


@dataclass(frozen=True)
class PeerBackend(Backend):
    """`distribution` is the package index's name of what `needs` is in; None: it is not there.

    `converter` is "module:name" of what writes the peer's file, None where it reads the bundle's;
    `made` is the folder of the files that it wrote.
    """

    title: str = ""
    distribution: str | None = None
    converter: str | None = None
    made: Path | None = None

    def load(self, path: Path, file: ModelFile, threads: int) -> Engine:
        return super().load(self.own_file(path, file), file, threads)

    def own_file(self, path: Path, file: ModelFile) -> Path:
        """What is loaded for a file of the bundle that lies at `path`."""
        return path if self.made is None else self.made / f"{Path(file.path).name}.{self.name}"

    def convert(self, bundle: Bundle, graph: Graph, file: ModelFile) -> None:
        """Write the peer's own file, unless it is there.

        Raises:
            BadInput: it cannot take the graph.
        """
        assert self.converter is not None
        target = self.own_file(bundle.file(file), file)
        if target.exists():
            return
        module, name = self.converter.split(":")
        converter: Converter = getattr(importlib.import_module(module), name)
        converter(bundle, graph, file, target)
        if not target.exists():
            raise BadInput(f"{self.title} did not convert {file.path}")

    @property
    def advice(self) -> str:
        """How to install it."""
        if self.distribution is None:
            return f"make its module {self.needs} importable"
        return f"pip install {self.distribution}, or 'movinet-edge[{EXTRA}]'"


PEERS: dict[str, PeerBackend] = {
    peer.name: peer
    for peer in (
        PeerBackend(
            "pytorch",
            "torch",
            "torch",
            "export",
            BACKENDS["torch"].factory,
            title="PyTorch eager",
            distribution="torch",
        ),
        PeerBackend(
            "movinet-pytorch",
            "torch",
            "movinets",
            EXTRA,
            f"{_HERE}.peer_movinets:MoViNetsEngine",
            title="MoViNet-pytorch",
        ),
        PeerBackend(
            "openvino",
            "onnx",
            "openvino",
            EXTRA,
            f"{_HERE}.peer_openvino:OpenVinoEngine",
            title="OpenVINO",
            distribution="openvino",
        ),
        PeerBackend(
            "mnn",
            "onnx",
            "MNN",
            EXTRA,
            f"{_HERE}.peer_mnn:MnnEngine",
            title="MNN",
            distribution="MNN",
            converter=f"{_HERE}.peer_mnn:convert",
        ),
        PeerBackend(
            "executorch",
            "onnx",
            "executorch",
            EXTRA,
            f"{_HERE}.peer_executorch:ExecuTorchEngine",
            title="ExecuTorch",
            distribution="executorch",
            converter=f"{_HERE}.peer_executorch:convert",
        ),
    )
}


def peer_named(name: str, made: Path | None) -> PeerBackend:
    """The peer `name`, its own files in the folder `made`."""
    peer = PEERS[name]
    return replace(peer, made=made) if peer.converter is not None else peer


def converted(bundle: Bundle, name: str, precision: str, made: Path | None) -> None:
    """Write the files of a peer that does not read the bundle's, those that are not there yet.

    Raises:
        BadInput: it cannot take a graph.
    """
    peer = peer_named(name, made)
    if peer.converter is None:
        return
    for step in bundle.manifest.plan_for(peer.format).steps:
        graph = bundle.manifest.graph(step.graph)
        peer.convert(bundle, graph, find_file(graph, peer, precision))


def loaded_file(backend: Backend, bundle: Bundle, file: ModelFile) -> tuple[Path, str]:
    """The file that a backend loads for one of the bundle, and its hash."""
    path = bundle.file(file)
    if not isinstance(backend, PeerBackend) or backend.made is None:
        return path, file.sha256
    own = backend.own_file(path, file)
    return own, sha256_of(own)
