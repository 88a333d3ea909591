"""Imports go one way, downwards; rooms on one floor do not know each other; no module grows out of hand."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import changen_cli

ROOT = Path(changen_cli.__file__).parent
MODULES = sorted(ROOT.rglob("*.py"))
FLOORS = {
    "": 0, "core": 0, "sources": 1, "events": 1, "synthesis": 1, "writers": 1, "exports": 1,
    "training": 2, "workflows": 3, "cli": 4,
}  # fmt: skip
CORE_NEEDS = {"numpy", "pydantic", "yaml", "changen_cli"} | set(sys.stdlib_module_names)
HEAVY = {"torch", "diffusers", "safetensors", "accelerate"}
LEARNED = {"synthesis", "training"}
"""Rooms that may import torch at their top; only training imports a module of theirs that does at its own."""
LONGEST = 400


def module_name(path: Path) -> str:
    parts = path.relative_to(ROOT.parent).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def room(name: str) -> str:
    parts = name.split(".")
    return parts[1] if len(parts) > 1 and parts[1] in FLOORS else ""


def imports(tree: ast.AST, module: str, *, package: bool = False) -> list[tuple[str, bool]]:
    """Every imported module of a tree, also in functions and under TYPE_CHECKING, and whether it is at run time's top."""
    inner = {
        id(node)
        for owner in ast.walk(tree)
        if isinstance(owner, (ast.FunctionDef, ast.AsyncFunctionDef))
        or (isinstance(owner, ast.If) and "TYPE_CHECKING" in ast.dump(owner.test))
        for node in ast.walk(owner)
    }
    found = []
    for node in ast.walk(tree):
        top = id(node) not in inner
        if isinstance(node, ast.Import):
            found += [(alias.name, top) for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                parts = module.split(".")
                parts = parts[: len(parts) - node.level + package]
                base = ".".join([*parts, base]) if base else ".".join(parts)
            # ``from changen_cli import cli`` imports a room too.
            found += [(f"{base}.{alias.name}" if base == "changen_cli" else base, top) for alias in node.names]
        elif isinstance(node, ast.Call) and node.args and isinstance(node.args[0], ast.Constant):
            called = getattr(node.func, "attr", getattr(node.func, "id", ""))
            if called in {"import_module", "__import__"} and isinstance(node.args[0].value, str):
                found.append((node.args[0].value, top))
    return found


def violations(source: str, module: str, *, package: bool = False) -> list[str]:
    """What a module's imports do against the house plan, one line each."""
    wrong = []
    here = room(module)
    for name, top in imports(ast.parse(source), module, package=package):
        root = name.split(".")[0]
        if root == "changen_cli":
            there = room(name)
            if FLOORS[there] > FLOORS[here]:
                wrong.append(f"{module} imports upward: {name}")
            elif FLOORS[there] == FLOORS[here] == 1 and there != here:
                wrong.append(f"{module} imports sideways: {name}")
        if here == "core" and root not in CORE_NEEDS:
            wrong.append(f"{module} needs {name}")
        if root in HEAVY and here not in LEARNED and (top or here != "workflows"):
            wrong.append(f"{module} imports {name}")
        if room(name) == "training" and top and here != "training":
            wrong.append(f"{module} imports {name} at its top")
    return wrong


def test_the_package_has_only_the_rooms_of_the_plan() -> None:
    rooms = {path.parent.name for path in ROOT.glob("*/__init__.py")}
    assert rooms == set(FLOORS) - {""}
    assert len(MODULES) > 40


@pytest.mark.parametrize("path", MODULES, ids=module_name)
def test_imports_go_downwards(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    assert violations(text, module_name(path), package=path.name == "__init__.py") == []


@pytest.mark.parametrize("path", MODULES, ids=module_name)
def test_no_module_is_too_long(path: Path) -> None:
    assert len(path.read_text(encoding="utf-8").splitlines()) <= LONGEST


@pytest.mark.parametrize(
    ("module", "source", "package"),
    [
        ("changen_cli.events.x", "from changen_cli.workflows.generate import generate", False),
        ("changen_cli.events.x", "from changen_cli import cli", False),
        ("changen_cli.events.x", "import changen_cli.writers.base", False),
        ("changen_cli.events.x", "def f():\n    from changen_cli.sources.folder import Source", False),
        ("changen_cli.events.x", "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    import changen_cli.synthesis", False),
        ("changen_cli.events.x", "from ..sources import folder", False),
        ("changen_cli.events", "from ..sources import folder", True),
        ("changen_cli.events", "from .. import sources", True),
        ("changen_cli.core.x", "def f():\n    from changen_cli.events import simulate_step", False),
        ("changen_cli.workflows.x", "from importlib import import_module\nimport_module('changen_cli.cli.app')", False),
        ("changen_cli.core.x", "from scipy import ndimage", False),
        ("changen_cli.writers.x", "import torch", False),
        ("changen_cli.cli.x", "def f():\n    import torch", False),
        ("changen_cli.workflows.x", "import diffusers", False),
        ("changen_cli.workflows.x", "from changen_cli.training.loop import run", False),
        ("changen_cli.synthesis.x", "def f():\n    from changen_cli.training.loop import run", False),
        ("changen_cli.cli.x", "def f():\n    import accelerate", False),
    ],
)  # fmt: skip
def test_the_checker_catches(module: str, source: str, package: bool) -> None:
    assert len(violations(source, module, package=package)) == 1


@pytest.mark.parametrize(
    ("module", "source"),
    [
        ("changen_cli.workflows.x", "from changen_cli.events import simulate_step\ndef f():\n    import torch"),
        ("changen_cli.events.x", "import numpy\nfrom changen_cli.core.types import Box\nfrom . import regions"),
        ("changen_cli.cli.x", "def f():\n    from changen_cli.workflows.train import train_model"),
        ("changen_cli.workflows.x", "def f():\n    from changen_cli.training.loop import run"),
        ("changen_cli.training.x", "import torch\nfrom changen_cli.training.loop import run"),
    ],
)
def test_the_checker_allows(module: str, source: str) -> None:
    assert violations(source, module) == []


LOADED = """
import sys
from changen_cli.cli.app import app
sys.argv = ["changen", *{arguments!r}]
try:
    app()
except SystemExit as done:
    print("EXIT", done.code or 0)
heavy = {{"torch", "diffusers", "rasterio", "pyarrow", "datasets", "scipy", "skimage", "PIL", "numpy"}}
heavy.add("changen_cli.core.recipe")  # typer itself may load pydantic; we do not
print("LOADED", sorted(heavy & set(sys.modules)))
"""


@pytest.mark.parametrize("arguments", [["--help"], ["generate", "--help"]], ids=" ".join)
def test_help_loads_nothing_heavy(arguments: list[str]) -> None:
    done = subprocess.run(
        [sys.executable, "-c", LOADED.format(arguments=arguments)],
        capture_output=True,
        text=True,
        env={"COLUMNS": "120", "PATH": "", "PYTHONPATH": str(ROOT.parent)},
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    assert "EXIT 0" in done.stdout
    assert "LOADED []" in done.stdout
    assert "changen generate --input ./xview2 --steps 3 --res 1024" in done.stdout
