"""YAML that people write, read with suspicion: bounded, plain, and every key once.

Values are what they look like (YAML 1.2's core types): ``true`` and ``false`` are the only truth values, ``no`` and
``on`` are words, ``2018-06-15`` is text and ``010`` is ten. PyYAML follows YAML 1.1, where none of that holds.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import yaml

from changen_cli.core.errors import UsageError

LARGEST_BYTES = 1 << 18
"""The worst text of that length takes ten seconds to read."""
_UNWRITABLE = re.compile("[\0\ud800-\udfff]")


class PlainLoader(yaml.SafeLoader):
    """Mappings, lists, texts, numbers, true, false and null; no aliases, no tags, no key twice.

    Of two keys with one name PyYAML would silently drop the first. Aliases let a few lines stand for gigabytes.
    """

    yaml_implicit_resolvers: dict[str, list[tuple[str, re.Pattern[str]]]] = {}  # noqa: RUF012 (PyYAML's own name)

    def compose_node(self, parent: yaml.Node | None, index: Any) -> yaml.Node | None:
        """Refuse aliases and tags, which are read here."""
        event = self.peek_event()  # type: ignore[no-untyped-call]
        tag = getattr(event, "tag", None)
        if isinstance(event, yaml.AliasEvent) or tag is not None:
            what = f"tags ({tag.replace('tag:yaml.org,2002:', '!!')})" if tag else "aliases (*name)"
            raise yaml.MarkedYAMLError(problem=f"{what} are not understood", problem_mark=event.start_mark)
        return super().compose_node(parent, index)

    def construct_scalar(self, node: Any) -> Any:
        """Refuse zero bytes, which no path and no name can hold, and halves of characters, which no file can."""
        value = super().construct_scalar(node)
        if isinstance(value, str) and (found := _UNWRITABLE.search(value)):
            what = "a zero byte" if found[0] == "\0" else f"half a character (\\u{ord(found[0]):04x})"
            raise yaml.MarkedYAMLError(problem=f"a text with {what}", problem_mark=node.start_mark)
        return value

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        """Refuse a key that is given twice."""
        seen: set[Any] = set()
        for key_node, _ in node.value:
            key = self.construct_object(key_node, deep=True)
            if not isinstance(key, str | int | float | None):
                raise yaml.MarkedYAMLError(problem="a key is no name", problem_mark=key_node.start_mark)
            if key in seen:
                raise yaml.MarkedYAMLError(problem=f"{key!r} is given twice", problem_mark=key_node.start_mark)
            seen.add(key)
        return super().construct_mapping(node, deep)

    def _number(self, node: yaml.ScalarNode) -> int | float:
        text = self.construct_scalar(node)
        return float(text) if node.tag.endswith("float") else int(text)


class _PlainDumper(yaml.SafeDumper):
    """Quotes what either version of YAML would take for something else than text; a key stands on its own line."""

    def represent_mapping(self, tag: str, mapping: Any, flow_style: bool | None = None) -> yaml.MappingNode:
        return super().represent_mapping(tag, mapping, flow_style=False)

    def represent_scalar(self, tag: str, value: Any, style: str | None = None) -> yaml.ScalarNode:
        # PyYAML takes rare characters for line ends, which other than in double quotes become spaces.
        rare = isinstance(value, str) and not value.isprintable()
        return super().represent_scalar(tag, value, '"' if rare else style)


for _name, _pattern, _first in (
    ("null", r"~|null|Null|NULL|", ["~", "n", "N", ""]),
    ("bool", r"true|True|TRUE|false|False|FALSE", list("tTfF")),
    ("int", r"[-+]?[0-9]{1,300}", list("-+0123456789")),
    ("float", r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?", list("-+.0123456789")),
):
    for _kind in (PlainLoader, _PlainDumper):
        _kind.add_implicit_resolver(f"tag:yaml.org,2002:{_name}", re.compile(f"(?:{_pattern})$"), _first)
for _name in ("int", "float"):
    PlainLoader.add_constructor(f"tag:yaml.org,2002:{_name}", PlainLoader._number)


def parse_yaml(text: str, where: str) -> Any:
    """Read YAML.

    Args:
        text: The YAML.
        where: What to call it in messages.

    Raises:
        UsageError: It is none, in one line that says where and why.
    """
    try:
        # The loader is safe: it is SafeLoader with fewer types.
        return yaml.load(text, Loader=PlainLoader)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark
        place = f", line {mark.line + 1}, column {mark.column + 1}" if mark and "\n" in text.strip() else ""
        reason = " ".join(str(error.problem or error.context or "no YAML").split())[:300]
        raise UsageError(f"{where}{place}: {reason}") from None
    except RecursionError:
        raise UsageError(f"{where}: nested too deeply") from None
    except (yaml.YAMLError, ValueError) as error:
        raise UsageError(f"{where}: {' '.join(str(error).split())[:300]}") from None


def read_yaml(path: Path) -> Any:
    """Read a YAML file: UTF-8, with or without a byte order mark, with any line ends, of at most 256 KiB.

    Raises:
        UsageError: There is none, or it cannot be read; names the file, the place and the reason.
    """
    try:
        with path.open("rb") as file:
            content = file.read(LARGEST_BYTES + 1)
    except FileNotFoundError:
        raise UsageError(f"{path} does not exist") from None
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise UsageError(f"{path} cannot be read: {reason}") from None
    if len(content) > LARGEST_BYTES:
        raise UsageError(f"{path} is larger than {LARGEST_BYTES >> 10} KiB, and no file of settings is")
    try:
        return parse_yaml(content.decode("utf-8-sig"), str(path))
    except UnicodeDecodeError as error:
        raise UsageError(f"{path} is not UTF-8 text (byte {error.start})", "Save it as UTF-8") from None


def dump_yaml(value: Any) -> str:
    """Write plain values as YAML that :func:`parse_yaml` reads back as they were; lists of scalars on one line."""
    return yaml.dump(
        value, Dumper=_PlainDumper, sort_keys=False, allow_unicode=True, default_flow_style=None, width=100_000
    )
