"""What is installed, what imports what, and that bundles run without torch."""

from __future__ import annotations

import ast
import json
import os
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from movinet_edge.benchmarks import facts as benchmark_facts
from movinet_edge.pattern import moving_pattern
from tests.videos import encode_video

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "movinet_edge"

# part -> what it must not import; imports run downwards only.
ABOVE = {
    "streaming": {
        "models",
        "checkpoints",
        "runtime",
        "data",
        "train",
        "export",
        "benchmarks",
        "cli",
    },
    "models": {"checkpoints", "data", "train", "export", "benchmarks", "cli"},
    "checkpoints": {"data", "train", "export", "benchmarks", "cli"},
    "data": {"models", "checkpoints", "train", "export", "benchmarks", "cli"},
    "train": {"export", "benchmarks", "cli"},
    "runtime": {
        *("streaming", "models", "checkpoints", "data", "train", "export", "benchmarks", "cli")
    },
    "localization": {
        *("bundle", "plan", "files", "runtime", "streaming", "models", "checkpoints", "data"),
        *("train", "export", "benchmarks", "cli"),
    },
    "bundle": {
        *("runtime", "streaming", "models", "checkpoints", "data", "train", "export"),
        *("benchmarks", "cli"),
    },
    # What the manifest in `bundle` calls; only types come from there.
    "localization_rule": {
        *("runtime", "streaming", "models", "checkpoints", "data", "train", "export"),
        *("benchmarks", "cli"),
    },
    "plan": {
        *("bundle", "files", "runtime", "streaming", "models", "checkpoints", "data", "train"),
        *("export", "benchmarks", "cli"),
    },
    "tensors": {
        *("bundle", "files", "runtime", "streaming", "models", "checkpoints", "data", "train"),
        *("export", "benchmarks", "cli"),
    },
    "record": {
        *("bundle", "plan", "files", "runtime", "streaming", "models", "checkpoints", "data"),
        *("train", "export", "benchmarks", "cli"),
    },
    "files": {
        *("bundle", "runtime", "streaming", "models", "checkpoints", "data", "train", "export"),
        *("benchmarks", "cli"),
    },
    "pattern": {
        *("bundle", "files", "runtime", "streaming", "models", "checkpoints", "data", "train"),
        *("export", "benchmarks", "cli"),
    },
    "errors": {"bundle", "runtime", "streaming", "models", "checkpoints", "export", "cli"},
    "child": {"bundle", "runtime", "streaming", "models", "checkpoints", "export", "cli"},
    "export": {"train", "cli"},
    "benchmarks": {"cli"},
}
WITHOUT_TORCH = (
    *("runtime", "localization", "bundle", "plan", "record", "files", "pattern", "errors", "child"),
    *("tensors", "localization_rule"),
)
HEAVY = {"torch", "tensorflow", "jax", "litert_torch", "safetensors"}


def sources(part: str) -> list[Path]:
    folder = PACKAGE / part
    return sorted(folder.glob("*.py")) if folder.is_dir() else [PACKAGE / f"{part}.py"]


def imports_of(path: Path) -> Iterator[str]:
    """Full names of all modules that a file imports, also inside functions."""
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


@pytest.mark.parametrize("part", ABOVE)
def test_imports_run_downwards(part: str) -> None:
    assert sources(part)
    for path in sources(part):
        place = path.relative_to(PACKAGE).as_posix()
        for name in imports_of(path):
            root, _, rest = name.partition(".")
            target = rest.split(".")[0]
            if root == "movinet_edge":
                assert target not in ABOVE[part], f"{place} imports {name}"
            assert root not in ("export", "benchmarks", "tests"), f"{place} imports {name}"
            if part in WITHOUT_TORCH:
                assert root not in HEAVY, f"{place} imports {name}"


def test_every_part_is_covered() -> None:
    folders = {p.name for p in PACKAGE.iterdir() if p.is_dir() and any(p.glob("*.py"))}
    modules = {p.stem for p in PACKAGE.glob("*.py")} - {"__init__"}
    assert folders | modules == {*ABOVE, "cli", "__main__"}


def python(code: str, *arguments: str) -> str:
    command = [sys.executable, "-c", code, *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()


def test_no_generic_module_names() -> None:
    names = python(
        "import sys, movinet_edge.export.exporter, movinet_edge.benchmarks.facts\n"
        "import movinet_edge.cli.main\n"
        "print(*[n for n in sys.modules if n.split('.')[0] in ('export', 'benchmarks')])"
    )
    assert names == ""
    assert benchmark_facts.__name__ == "movinet_edge.benchmarks.facts"


def test_importing_the_package_loads_nothing() -> None:
    loaded = python(
        "import sys; before = set(sys.modules); import movinet_edge\n"
        "print(*sorted(set(sys.modules) - before))"
    )
    assert loaded == "movinet_edge"


def test_help_loads_no_engine() -> None:
    loaded = python(
        "import sys, movinet_edge.cli.main\n"
        "heavy = {'torch', 'numpy', 'av', 'pydantic', 'onnxruntime', 'ai_edge_litert'}\n"
        "print(*sorted(heavy & set(sys.modules)))"
    )
    assert loaded == ""


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Built from a copy: setuptools leaves its scratch files beside the sources."""
    folder = tmp_path_factory.mktemp("wheel")
    tree, skip = folder / "tree", shutil.ignore_patterns("__pycache__", "*.pyc", "results")
    for name in ("movinet_edge", "export", "benchmarks"):
        shutil.copytree(ROOT / name, tree / name, symlinks=True, ignore=skip)
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, tree / name)
    build = [sys.executable, "-m", "build", "--wheel", "--no-isolation"]
    command = [*build, "-o", str(folder), str(tree)]
    result = subprocess.run(command, capture_output=True, text=True)
    assert result.returncode == 0, result.stdout[-2000:] + result.stderr[-2000:]
    (built,) = folder.glob("*.whl")
    return built


def test_the_wheel_installs_one_package(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
    roots = {name.split("/")[0] for name in names}
    (info,) = (root for root in roots if root.endswith(".dist-info"))
    assert roots == {"movinet_edge", info}
    held = {name for name in names if name.startswith("movinet_edge/")}
    wanted = {
        (Path("movinet_edge") / path.relative_to(PACKAGE)).as_posix()
        for part in (*ABOVE, "cli")
        for path in sources(part)
    }
    data = [
        *PACKAGE.glob("benchmarks/device/*"),
        *PACKAGE.glob("benchmarks/*.jinja"),
        *PACKAGE.glob("export/*.jinja"),
        *PACKAGE.glob("export/*.css"),
        *PACKAGE.glob("train/recipes/*.toml"),
        *PACKAGE.glob("checkpoints/trained/*"),
        *PACKAGE.glob("__*__.py"),
    ]
    assert held == wanted | {f"movinet_edge/{p.relative_to(PACKAGE).as_posix()}" for p in data}


class Environment:
    """A virtual environment with the wheel; commands run outside the source tree."""

    def __init__(self, folder: Path, wheel: Path, *requirements: str):
        self.folder = folder
        subprocess.run([sys.executable, "-m", "venv", "--without-pip", folder], check=True)
        self.python = folder / "bin" / "python"
        pip = [sys.executable, "-m", "pip", "--python", str(self.python), "install", "-q"]
        result = subprocess.run(
            [*pip, str(wheel), *requirements], capture_output=True, text=True, cwd=folder
        )
        offline = ("NewConnectionError", "name resolution", "ProxyError", "timed out")
        if result.returncode and any(word in result.stderr for word in offline):
            pytest.skip("the package index cannot be reached")
        assert result.returncode == 0, result.stderr

    def lacks(self, module: str) -> bool:
        code = f"import importlib.util as u; print(u.find_spec({module!r}) is None)"
        return self.output(self.python, "-c", code) == "True\n"

    def output(self, *command: str | Path, fails: bool = False) -> str:
        hidden = ("PYTHONPATH", "VIRTUAL_ENV")
        result = subprocess.run(
            command,
            capture_output=True,
            text=True,
            cwd=self.folder,
            env={name: value for name, value in os.environ.items() if name not in hidden},
        )
        if fails:
            assert result.returncode == 2, result.stdout
            return result.stderr
        assert result.returncode == 0, result.stderr
        return result.stdout

    def movinet_edge(self, *arguments: str | Path, fails: bool = False) -> str:
        return self.output(self.folder / "bin" / "movinet-edge", *arguments, fails=fails)

    def answers(self, *arguments: str | Path) -> list[dict[str, Any]]:
        """What ``run --json`` prints."""
        lines = self.movinet_edge("run", *arguments, "--json").splitlines()
        return [json.loads(line) for line in lines]


@pytest.fixture(scope="module")
def video(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return encode_video(
        tmp_path_factory.mktemp("video") / "v.mp4", moving_pattern(40, 180, 240, seed=7)
    )


@pytest.fixture(scope="module")
def without_torch(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Environment:
    """What a user installs on a board: the base package and one engine, as tested."""
    folder = tmp_path_factory.mktemp("litert")
    constraints = str(ROOT / "constraints.txt")
    return Environment(folder, wheel, "ai-edge-litert", "-c", constraints)


@pytest.mark.timeout(300)
def test_bundles_run_without_torch(
    without_torch: Environment, a0_bundle: Path, video: Path
) -> None:
    environment = without_torch
    for module in ("torch", "onnxruntime", "PIL", "tensorflow"):
        assert environment.lacks(module)
    assert "movinet-a0-stream" in environment.movinet_edge("inspect", a0_bundle)
    answers = environment.answers(a0_bundle, video)
    assert [a["frame"] for a in answers] == list(range(20))
    assert {len(a["top"]) for a in answers} == {5}
    environment.movinet_edge("bench", a0_bundle, "--steps", "5", "--json", "bench.json")
    assert json.loads((environment.folder / "bench.json").read_text())
    # What is not installed is named with its extra.
    for backend, extra in (("onnxruntime", "onnxruntime"), ("torch", "export")):
        said = environment.movinet_edge("run", a0_bundle, video, "--backend", backend, fails=True)
        assert said == (
            f"error: backend {backend} is not installed; pip install 'movinet-edge[{extra}]'\n"
        )
    said = environment.movinet_edge("run", a0_bundle, video, "--save", "x.mp4", fails=True)
    assert said.startswith("error: --save draws with Pillow; pip install 'movinet-edge[video]'")
    for command in (["models"], ["import", "x"], ["export", "movinet-a0-stream", "--out", "b"]):
        arguments = [*command, "--out", "y"] if command[0] == "import" else command
        said = environment.movinet_edge(*arguments, fails=True)
        assert "pip install 'movinet-edge[export]'" in said.splitlines()[-1]


@pytest.mark.timeout(300)
@pytest.mark.skipif(sys.version_info >= (3, 12), reason="tflite-runtime ended with Python 3.11")
def test_old_boards(
    wheel: Path,
    without_torch: Environment,
    a0_bundle: Path,
    video: Path,
    tmp_path: Path,
) -> None:
    """The last tflite-runtime, which needs an old numpy, sees what LiteRT sees."""
    board = Environment(tmp_path / "board", wheel, "tflite-runtime==2.14", "numpy<2")
    assert board.lacks("ai_edge_litert")
    old = board.answers(a0_bundle, video, "--backend", "tflite-runtime")
    new = without_torch.answers(a0_bundle, video, "--backend", "litert")
    assert len(old) == len(new) == 20
    for one, two in zip(old, new, strict=True):
        assert one["top"][0]["index"] == two["top"][0]["index"]
        assert one["top"][0]["score"] == pytest.approx(two["top"][0]["score"], abs=1e-3)
