"""Write ``docs/api.md``: the functions and types to call from Python, from their signatures and docstrings.

Usage: python tools/api_reference.py [--check]

``--check`` writes nothing and fails when the file is out of date.
"""

from __future__ import annotations

import ast
import inspect
import re
import sys
from collections.abc import Iterator
from pathlib import Path

from pages import write_or_check

ROOT = Path(__file__).resolve().parents[1]
TARGET = ROOT / "docs" / "api.md"
HEAD = """\
# Python API

<!-- Written by tools/api_reference.py from docstrings. Change those, or its PARTS, and run `make docs`. -->

Everything a command does can be called. What is listed here is meant to stay; other modules may change. Every failure
you can act on is a [`ChangenError`](#changenerror) with one line that says what to do.

Arrays are numpy, `[H, W]` in pixels, row first. Random numbers come from generators that are passed in, never from a
global one.
"""
PARTS: tuple[tuple[str, str, tuple[str, ...]], ...] = (
    (
        "Making datasets",
        "A recipe says everything; see [recipes](recipes.md) for its keys.",
        (
            "core/recipe.py build_recipe",
            "core/recipe_files.py load_recipe parse_settings recipe_schema",
            "workflows/generate.py generate",
            "workflows/simulate.py simulate_dataset",
            "workflows/preview.py preview Preview",
            "workflows/results.py RunResult",
            "workflows/progress.py Progress",
            "workflows/status.py dataset_status DatasetStatus",
        ),
    ),
    (
        "Looking at datasets",
        "What the files hold: [outputs](outputs.md).",
        (
            "workflows/validate.py validate Validation",
            "workflows/evaluate.py evaluate",
            "workflows/evaluation.py update_evaluation",
            "workflows/report.py make_report Report",
            "workflows/timelapse.py timelapse",
            "workflows/replay.py replay Replay",
            "core/manifest.py read_manifest",
            "core/checksums.py read_checksums",
            "workflows/describe.py describe",
            "writers/card.py render_card",
        ),
    ),
    (
        "Passing datasets on",
        "Layouts: [exports](exports.md). The Hub: [publishing](hub.md).",
        (
            "workflows/export.py export ExportReport",
            "exports/formats.py find_format Format",
            "exports/master.py open_master Master Sample Pair pairs",
            "workflows/push.py push_dataset",
        ),
    ),
    (
        "Reading scenes",
        "See [sources](sources.md).",
        ("sources/folder.py open_source detect_layout Source", "core/types.py Scene Skip ClassSchema"),
    ),
    (
        "Simulating change",
        "Pure numpy, milliseconds a step; see [events](events.md).",
        (
            "events/simulate.py simulate_series simulate_step",
            "events/state.py EventRules start_series",
            "core/types.py ChangeEvent StepReport MaskSeries Exemplar",
            "core/transitions.py load_transitions TransitionTable",
            "core/seeding.py derive_seed derive_rng",
        ),
    ),
    (
        "Drawing images",
        "These need torch; see [model](model.md) and [nuisance](nuisance.md).",
        (
            "workflows/models.py open_model OpenedModel list_models describe_model",
            "synthesis/pipeline.py ChangenPipeline",
            "synthesis/synthesiser.py Synthesiser SynthesisSettings DateJob",
            "synthesis/nuisance/acquisition.py draw_acquisition Acquisition",
            "core/nuisance.py load_nuisance NuisanceTable",
        ),
    ),
    ("Training", "See [training](training.md).", ("workflows/train.py train_model TrainRequest TrainInput",)),
    (
        "Writing samples",
        "A layout of your own is one class: see [contributing](../CONTRIBUTING.md).",
        ("core/types.py TimeSeries", "writers/base.py SampleWriter open_writer"),
    ),
    (
        "Errors",
        "All messages: [every message](errors.md).",
        ("core/errors.py ChangenError UsageError SceneError ModelError OutputError IncompleteError LockedError",),
    ),
)
_SECTION = re.compile(r"^(Args|Attributes|Returns|Yields|Raises):$")
_ROLE = re.compile(r":(?:class|func|meth|attr|mod|data):`~?([\w.]+)`")
Definition = ast.FunctionDef | ast.ClassDef


def known() -> frozenset[str]:
    """Names that have a heading on the page."""
    return frozenset(name for _, _, entries in PARTS for entry in entries for name in entry.split()[1:])


def plain(text: str) -> str:
    """Markdown of the reStructuredText in docstrings: double backquotes; roles, as links where they are listed."""

    def linked(role: re.Match[str]) -> str:
        name = role[1].rpartition(".")[2]
        return f"[`{name}`](#{name.lower()})" if name in known() else f"`{name}`"

    return _ROLE.sub(linked, text).replace("``", "`")


def sections(text: str) -> Iterator[tuple[str, str]]:
    """The parts of a Google docstring: heading (empty for the text before the first) and content."""
    heading, lines = "", list[str]()
    for line in text.splitlines():
        found = _SECTION.match(line)
        if found:
            yield heading, "\n".join(lines).strip("\n")
            heading, lines = found[1], []
        else:
            lines.append(line)
    yield heading, "\n".join(lines).strip("\n")


def items(text: str) -> Iterator[tuple[str, str]]:
    """``name: what it is`` of an indented part; lines indented further go on with the item before."""
    for part in re.split(r"\n(?=\S)", inspect.cleandoc(text)):
        name, _, rest = part.partition(": ")
        yield name.strip(), " ".join(rest.split())


def documented(text: str) -> str:
    """A Google docstring as Markdown."""
    parts = []
    for heading, content in sections(text):
        if not heading:
            parts.append(plain(content))
        elif heading in ("Returns", "Yields"):
            parts.append(f"**{heading}** {plain(' '.join(content.split()))}")
        else:
            rows = [f"- `{name}`: {plain(rest)}" for name, rest in items(content)]
            parts.append(f"**{heading}**\n\n" + "\n".join(rows))
    return "\n\n".join(part for part in parts if part)


def parameters(arguments: ast.arguments) -> list[str]:
    """Each parameter as one writes it."""

    def written(argument: ast.arg, default: ast.expr | None) -> str:
        equals = " = " if argument.annotation else "="
        return ast.unparse(argument) + (f"{equals}{ast.unparse(default)}" if default else "")

    places = [part for part in (*arguments.posonlyargs, *arguments.args) if part.arg not in ("self", "cls")]
    defaults = [None] * (len(places) - len(arguments.defaults)) + list(arguments.defaults)
    named = [written(*pair) for pair in zip(arguments.kwonlyargs, arguments.kw_defaults, strict=True)]
    rest = [f"*{ast.unparse(arguments.vararg)}"] if arguments.vararg else ["*"] if named else []
    more = [f"**{ast.unparse(arguments.kwarg)}"] if arguments.kwarg else []
    return [*(written(*pair) for pair in zip(places, defaults, strict=True)), *rest, *named, *more]


def signature(node: ast.FunctionDef, name: str = "", longest: int = 100) -> str:
    """A function's head as code: on one line where it fits, else with one parameter a line."""
    parts, returns = parameters(node.args), f" -> {ast.unparse(node.returns)}" if node.returns else ""
    short = f"{name or node.name}({', '.join(parts)}){returns}"
    if len(short) <= longest:
        return short
    return f"{name or node.name}(\n" + "".join(f"    {part},\n" for part in parts) + f"){returns}"


def fields(node: ast.ClassDef) -> list[str]:
    """What a dataclass or model is made of, as code."""
    found = [
        part for part in node.body if isinstance(part, ast.AnnAssign) and not ast.unparse(part.target).startswith("_")
    ]
    return [f"    {ast.unparse(part.target)}: {ast.unparse(part.annotation)}" for part in found]


def described(node: Definition, module: str) -> str:
    """One function or class, with its public methods."""
    text = documented(ast.get_docstring(node) or "")
    where = f"from {module} import {node.name}"
    if isinstance(node, ast.FunctionDef):
        return f"### {node.name}\n\n```python\n{where}\n\n{signature(node)}\n```\n\n{text}"
    own = [part for part in node.body if isinstance(part, ast.FunctionDef)]
    made = next((part for part in own if part.name == "__init__"), None)
    head = signature(made, node.name).removesuffix(" -> None") if made else f"class {node.name}:"
    code = "\n".join([where, "", head, *(fields(node) if not made else [])])
    parts = [f"### {node.name}", f"```python\n{code}\n```", text]
    for method in own:
        if not method.name.startswith("_") and ast.get_docstring(method):
            is_property = any(ast.unparse(mark).endswith("property") for mark in method.decorator_list)
            shown = method.name if is_property else signature(method, longest=1000)
            parts.append(f"`{node.name}.{shown}`\n\n{documented(ast.get_docstring(method) or '')}")
    return "\n\n".join(part for part in parts if part)


def render() -> str:
    """The whole page.

    Raises:
        SystemExit: A name of ``PARTS`` is not in its module.
    """
    text = [HEAD.rstrip()]
    for title, lead, entries in PARTS:
        text += [f"## {title}", lead]
        for entry in entries:
            file, *names = entry.split()
            tree = ast.parse((ROOT / "changen_cli" / file).read_text(encoding="utf-8"))
            found = {node.name: node for node in tree.body if isinstance(node, ast.FunctionDef | ast.ClassDef)}
            module = f"changen_cli.{file.removesuffix('.py').replace('/', '.')}"
            for name in names:
                if name not in found:
                    raise SystemExit(f"{module} has no {name}: mend PARTS of tools/api_reference.py")
                text.append(described(found[name], module))
    return "\n\n".join(text) + "\n"


if __name__ == "__main__":
    sys.exit(write_or_check(TARGET, render, sys.argv[1:]))
