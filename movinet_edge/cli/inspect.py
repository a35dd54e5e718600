"""``movinet-edge inspect``: what is in a bundle."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from movinet_edge.bundle import Manifest, ModelFile, PlanStep


COMBINED = {
    "last": "",
    "mean": ", the mean of what each graph gave last",
    "looks": ", the mean over all frames that were looked at",
}


def late(manifest: Manifest) -> str:
    """How late the answers of a model that looks ahead are."""
    delay, rate = manifest.plan.delay, manifest.preprocessing.frame_rate
    return f"looks ahead: answers come {delay} frames ({delay / rate:.1f} s) late"


def kept(manifest: Manifest) -> list[str]:
    """What a host keeps between two frames: a line for every format and precision of a stream."""
    if not any(graph.states for graph in manifest.graphs):
        return []
    exported = [f for g in manifest.graphs for f in g.files if f.format != "torch"]
    return list(dict.fromkeys(_kept(manifest, file) for file in exported))


def _kept(manifest: Manifest, file: ModelFile) -> str:
    from movinet_edge.runtime.graph import feature_rings

    states, written = 0, dict[str, int]()
    for graph in manifest.graphs:
        for other in graph.files:
            if (other.format, other.precision) == (file.format, file.precision):
                states += graph.state_bytes(other)
                written |= {s.name: s.nbytes for s in other.outputs if s.role == "feature"}
    rings = feature_rings(manifest)
    features = sum(rings[name].length * size for name, size in written.items())
    of = f"{file.format} {file.precision}"
    shared = f" and features of {features / 1e6:.2f} MB" if features else ""
    return f"{of} keeps states of {states / 1e6:.2f} MB{shared} from frame to frame"


def _when(step: PlanStep) -> str:
    if step.snippets is not None:
        clock = step.snippets
        return f"snippets of {clock.frames} frames, one every {clock.hop} frames"
    if step.after is not None:
        return f"when {step.after.count} new {step.after.feature} are there"
    if step.when is not None:
        return f"frames for which {step.when} is chosen"
    return "every frame" if step.every == 1 else f"every {step.every} frames from {step.offset} on"


def inspect(
    path: Annotated[Path, typer.Argument(metavar="BUNDLE", help="Directory or .zip.")],
    as_json: Annotated[bool, typer.Option("--json", help="Print the manifest.")] = False,
) -> None:
    """Check a bundle's files against their hashes and print what a host needs to know."""
    from movinet_edge.bundle import Bundle

    bundle = Bundle(path)
    bundle.check_all()
    manifest = bundle.manifest
    if as_json:
        print(manifest.model_dump_json(indent=1, exclude_none=True))
        return
    from rich.table import Table

    from movinet_edge.cli.console import out

    console = out()
    contract = manifest.preprocessing
    console.print(
        f"{manifest.name}, {manifest.task}, {manifest.classes} classes",
        highlight=False,
        style="bold",
    )
    console.print(
        f"frames: RGB {contract.width}x{contract.height} ({contract.fit}) at "
        f"{contract.frame_rate:g} per second, values "
        f"{contract.value_range}; answer: {manifest.plan.answer} as {manifest.output}"
        + COMBINED[manifest.plan.combine],
        highlight=False,
    )
    for line in kept(manifest):
        console.print(line, highlight=False)
    if choice := manifest.plan.choice:
        costs = ", ".join(f"{a.name} ({a.cost:.4g})" for a in choice.actions)
        console.print(
            f"{choice.graph} decides for each frame ({choice.unit} of a frame): {costs}",
            highlight=False,
        )
    if manifest.plan.delay:
        console.print(late(manifest), highlight=False)
    for graph in manifest.graphs:
        planned = [s for s in manifest.plan.steps if s.graph == graph.name]
        when = ", ".join(_when(s) for s in planned)
        when = when or "the whole model in PyTorch"
        sha256 = graph.checkpoint_sha256
        console.print(
            f"graph {graph.name}: form {graph.form}, {graph.frames} frame(s) per run, {when}, "
            f"{graph.macs / 1e6:.1f} MMAC, {len(graph.states)} states"
            + (f", weights sha256 {sha256[:16]}…" if sha256 else ""),
            highlight=False,
        )
        table = Table("file", "format", "precision", "MB", "inputs", "outputs", "runs on")
        for file in graph.files:
            table.add_row(
                file.path,
                file.format,
                file.precision,
                f"{file.bytes / 1e6:.2f}",
                str(len(file.inputs)),
                str(len(file.outputs)),
                file.runtime,
            )
        console.print(table)
        if graph.states:
            states = Table("state", "rule", "shape of one (torch: C, H, W)", title="States")
            whole = next((g for g in manifest.graphs if g.name == manifest.reference), graph)
            shapes = {
                s.state: s.shape for f in whole.files if f.format == "torch" for s in f.outputs
            }
            for rule in graph.states:
                shape = shapes.get(rule.name, ())
                replaced = rule.rule == "replace"
                one = shape if replaced else shape[1:]
                text = rule.rule if replaced else f"{rule.rule} {rule.past}"
                states.add_row(rule.name, text, " x ".join(map(str, one)) or "1")
            console.print(states)
    source = manifest.provenance
    console.print(f"weights sha256 {source.checkpoint_sha256[:16]}…", highlight=False)
    tools = ", ".join(f"{name} {version}" for name, version in source.tools.items())
    console.print(f"written by {tools}", highlight=False)
