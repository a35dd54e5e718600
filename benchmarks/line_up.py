"""Who takes part: entries for a bundle's backends and for what it is compared against."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from movinet_edge.benchmarks.bundled import BundleContestant, precisions
from movinet_edge.benchmarks.contestant import Contestant, Entry
from movinet_edge.benchmarks.peer_engines import PEERS
from movinet_edge.benchmarks.peers import WAYS, BoundPeer, InterpreterPeer, read_wiring, ways_of
from movinet_edge.bundle import Bundle
from movinet_edge.errors import BadInput
from movinet_edge.runtime.engines import BACKENDS, backend_named, usable_backends

REFERENCE = "torch"  # slow, and no engine to ship: takes part only when named


def bundle_entries(
    bundle: Bundle, backends: Sequence[str], threads: Sequence[int], prefix: str = ""
) -> list[Entry]:
    """Every backend (by default the installed ones) in every precision and thread count.

    Raises:
        BadInput: no engine is installed, an unknown backend, or no file for one.
    """
    entries = []
    for name in _backends(bundle, backends):
        # A backend without files is tried in the default precision: the runtime says what lacks.
        for precision in precisions(bundle.manifest, BACKENDS[name].format) or ["fp32"]:
            shown = f"{prefix}{name}" + ("" if precision == "fp32" else f" {precision}")
            facts = {"way": name, "precision": precision}
            entries += _entries(threads, shown, kind="bundle", path=bundle.path, **facts)
    return entries


def peer_entries(path: Path, threads: Sequence[int]) -> list[Entry]:
    """A model file in every installed way to run it.

    Raises:
        BadInput: not a streaming model that can be wired, or no engine for it.
    """
    ways = ways_of(path)
    wiring = read_wiring(path)
    entries = []
    for way in ways:
        name = f"{path.stem} ({WAYS[way].title})"
        entries += _entries(threads, name, kind="peer", path=path, way=way, wiring=wiring)
    return entries


def engine_entries(
    bundle: Bundle, threads: Sequence[int], made: Path, known: Sequence[Entry]
) -> tuple[list[Entry], list[str]]:
    """Other engines on the bundle's weights, and notes of those that lack an installation or file.

    Args:
        made: the folder for the files of those that do not read the bundle's.
        known: who takes part already; none of them does so twice.
    """
    entries, notes = [], []
    for peer in PEERS.values():
        if any(e.kind == "bundle" and BACKENDS[e.way].factory == peer.factory for e in known):
            continue
        held = precisions(bundle.manifest, peer.format)
        if not peer.installed:
            notes.append(f"{peer.title} is not installed; {peer.advice}")
        elif not held:
            advice = f"export it with --format {peer.format}"
            notes.append(f"{peer.title} was left out: the bundle has no {peer.format}; {advice}")
        for precision in held if peer.installed else ():
            name = peer.title + ("" if precision == "fp32" else f" {precision}")
            facts = {"way": peer.name, "precision": precision, "made": made}
            entries += _entries(threads, name, kind="peer", path=bundle.path, **facts)
    return entries, notes


def _entries(threads: Sequence[int], name: str, **facts: Any) -> list[Entry]:
    """One for every thread count; labels are made unique later."""
    return [Entry(label=name, name=name, threads=count, **facts) for count in threads]


def is_bundle(path: Path) -> bool:
    """Whether `path` is to be opened as a bundle rather than as a model file."""
    # By name only: a .tflite with metadata is, to its last bytes, also a zip.
    return path.is_dir() or path.suffix.lower() == ".zip"


def with_unique_labels(entries: Sequence[Entry]) -> list[Entry]:
    """Labels that tell thread counts, and files of the same name, apart."""
    many_threads = len({entry.threads for entry in entries}) > 1
    labels = [
        f"{e.name}, {e.threads} thread{'s' * (e.threads > 1)}" if many_threads else e.name
        for e in entries
    ]
    counts, seen = Counter(labels), Counter[str]()
    unique = []
    for entry, label in zip(entries, labels, strict=True):
        seen[label] += 1
        suffix = f" #{seen[label]}" if counts[label] > 1 else ""
        name = entry.name + suffix
        unique.append(entry.model_copy(update={"label": label + suffix, "name": name}))
    return unique


def start(entry: Entry, bundle: Bundle | None = None) -> Contestant:
    """Load a contestant; `bundle` shares an opened one.

    Raises:
        BadInput: it cannot be loaded.
    """
    if entry.wiring is None:
        return BundleContestant(entry, bundle)
    return InterpreterPeer(entry) if entry.way == "interpreter" else BoundPeer(entry)


def _backends(bundle: Bundle, named: Sequence[str]) -> list[str]:
    if named:
        return list(dict.fromkeys(backend_named(name).name for name in named))
    formats = {file.format for graph in bundle.manifest.graphs for file in graph.files}
    usable = [b.name for b in usable_backends(formats) if b.name != REFERENCE]
    if not usable:
        raise BadInput(
            f"no engine for {bundle.path} is installed; pip install 'movinet-edge[litert]' "
            "or 'movinet-edge[onnxruntime]'"
        )
    # An engine can be there for a format that only some graphs of the bundle have.
    held = [name for name in usable if precisions(bundle.manifest, BACKENDS[name].format)]
    return held or usable[:1]
