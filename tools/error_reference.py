"""Write ``docs/errors.md``: every message the package can end with or skip an image for, read off its source.

Usage: python tools/error_reference.py [--check]

``--check`` writes nothing and fails when the file is out of date. What stands where: ``tools/error_topics.py``.
"""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))

from error_topics import TOPICS, Topic
from message_text import Module, Resolver, escaped, has_words
from pages import write_or_check

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = ROOT / "changen_cli"
TARGET = ROOT / "docs" / "errors.md"
HEAD = """\
# Every message

<!-- Written by tools/error_reference.py. Change messages in changen_cli, advice in tools/error_topics.py, and run
`make docs`. -->

A command that fails says `Error: `, what is wrong and what to do, in one line. These are all of them, by what they are
about; words in *italics* stand for names and values of yours. What to do about common ones, at more length:
[troubleshooting](troubleshooting.md).

The first column is the [exit code](cli.md). *skip*: the image or sample is left out and the run goes on; the line
begins with its name, and the manifest lists it under `skipped` or `failed`. *value*: the reason at the end of a line
that names an option, a key or a file.
"""
CODES = {"ValueError": "value", "Skip": "skip", "Candidate": "skip", "SceneError": "skip"}
"""What is no failure of a whole command by itself; the exit codes of the others are read off ``core/errors.py``."""


@dataclass(frozen=True, order=True)
class Message:
    """One message: text, what to do (may be empty), and the exit code or what stands for it."""

    code: str
    text: str
    fix: str


def exit_codes(resolver: Resolver) -> dict[str, str]:
    """Class → exit code of every error in the tree of ``core/errors.py``, and of those derived from it elsewhere."""
    codes = {"ChangenError": "1", **CODES}
    for module in sorted(resolver.modules(), key=lambda module: module.name != "core/errors.py"):
        for node in module.classes():
            if node.name in codes:
                continue
            base = next((name.id for name in node.bases if isinstance(name, ast.Name) and name.id in codes), None)
            if base and base not in ("ValueError", "Skip", "Candidate"):
                own = [part.value for part in node.body if isinstance(part, ast.Assign) and _is_code(part)]
                codes[node.name] = ast.unparse(own[0]) if own else codes[base]
    return codes


def _is_code(node: ast.Assign) -> bool:
    return any(isinstance(target, ast.Name) and target.id == "exit_code" for target in node.targets)


def topic_of(module: str) -> Topic:
    """The topic a module belongs to: the first that names it, or a folder it lies in.

    Raises:
        SystemExit: None does.
    """
    for topic in TOPICS:
        if any(module == part or (part.endswith("/") and module.startswith(part)) for part in topic.modules):
            return topic
    raise SystemExit(f"changen_cli/{module} raises errors, and no topic of tools/error_topics.py names it")


def messages(module: Module, resolver: Resolver, codes: dict[str, str]) -> Iterator[Message]:
    """Every message a module makes, each alternative on its own."""
    told = {name for topic in TOPICS for name in topic.values}
    for call in module.calls():
        name = getattr(call.func, "id", getattr(call.func, "attr", ""))
        parts = call.args[:2]
        if name in ("Skip", "Candidate"):
            parts = call.args[1:2] if name == "Skip" else [part for part in call.args if ast.unparse(part) == "problem"]
        if not parts or name not in codes or (name == "ValueError" and module.name not in told):
            continue
        fix = " / ".join(resolver.texts(module, call, parts[1])) if len(parts) > 1 else ""
        for text in resolver.texts(module, call, parts[0]):
            yield Message(codes[name], text, fix)
    for text, fix in resolver.pairs(module):
        yield Message("1", text, fix)


def render() -> str:
    """The whole page."""
    resolver = Resolver(PACKAGE)
    codes = exit_codes(resolver)
    found: dict[str, set[Message]] = {topic.title: set() for topic in TOPICS}
    for module in resolver.modules():
        for message in messages(module, resolver, codes):
            if has_words(message.text):
                found[topic_of(module.name).title].add(message)
    parts = [HEAD.rstrip()]
    for topic in TOPICS:
        rows = [
            f"| {row.code} | {escaped(row.text)} | {escaped(row.fix)} |"
            for row in sorted(found[topic.title], key=_order)
        ]
        if rows:
            table = "\n".join(["| | message | what to do |", "| --- | --- | --- |", *rows])
            parts += [f"## {topic.title}", topic.advice, table]
    return "\n\n".join(parts) + "\n"


def _order(message: Message) -> tuple[str, ...]:
    return message.code, "".join(filter(str.isalpha, message.text)).lower(), message.text, message.fix


if __name__ == "__main__":
    sys.exit(write_or_check(TARGET, render, sys.argv[1:]))
