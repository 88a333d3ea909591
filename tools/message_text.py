"""Texts of messages as people see them, read off source code: f-strings with their values named, constants put in."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from functools import cached_property
from pathlib import Path

HOLE = "\N{LEFT-POINTING ANGLE BRACKET}{}\N{RIGHT-POINTING ANGLE BRACKET}"
_HOLE = re.compile("\N{LEFT-POINTING ANGLE BRACKET}(.*?)\N{RIGHT-POINTING ANGLE BRACKET}")
_SAME = {
    "error": "reason",
    "strerror": "reason",
    "root": "folder",
    "out": "folder",
    "parent": "folder",
    "text": "value",
    "repr": "value",
    "map": "values",
    "get_args": "names",
    "gethostname": "host",
    "noted": "a run",
}
_WRAPPERS = frozenset(
    ("str", "repr", "one_line", "sorted", "getattr", "_short", "_one_line", "describe", "tuple", "len", "list", "type")
)
_METHODS = frozenset(("get", "rstrip", "strip", "tolist", "split", "removeprefix", "resolve"))

_DEEPEST = 4


def escaped(text: str) -> str:
    """A text with holes as a cell of a Markdown table: the holes in italics."""
    text = re.sub(r"([\\`*_\[\]<>|{}#])", r"\\\1", text).replace("\\<", "&lt;").replace("\\>", "&gt;")
    return _HOLE.sub(lambda hole: f"*{hole[1].strip()}*", text).replace("**", "* *")


def has_words(text: str) -> bool:
    """Whether anything is said besides the values put in."""
    return any(letter.isalpha() for letter in _HOLE.sub("", text))


class Module:
    """The source of one module, and where in it what stands."""

    def __init__(self, name: str, source: str) -> None:
        self.name, self.tree = name, ast.parse(source)

    @cached_property
    def parents(self) -> dict[ast.AST, ast.AST]:
        """Node → the node it is part of."""
        return {child: node for node in ast.walk(self.tree) for child in ast.iter_child_nodes(node)}

    def calls(self) -> Iterator[ast.Call]:
        """Every call in the module."""
        return (node for node in ast.walk(self.tree) if isinstance(node, ast.Call))

    def classes(self) -> Iterator[ast.ClassDef]:
        """Every class at the top of the module."""
        return (node for node in self.tree.body if isinstance(node, ast.ClassDef))

    def function_of(self, node: ast.AST) -> ast.AST:
        """The function a node stands in; the module where in none."""
        while node in self.parents and not isinstance(node, ast.FunctionDef):
            node = self.parents[node]
        return node

    def assigned(self, scope: ast.AST, name: str) -> list[ast.expr]:
        """What a name is set to in a function, or at the top of the module."""
        nodes = self.tree.body if scope is self.tree else ast.walk(scope)
        return [
            node.value
            for node in nodes
            if isinstance(node, ast.Assign | ast.AnnAssign) and node.value is not None
            for target in (node.targets if isinstance(node, ast.Assign) else [node.target])
            if isinstance(target, ast.Name) and target.id == name
        ]

    def returned(self, name: str) -> list[ast.expr]:
        """What a function at the top of the module returns."""
        functions = [node for node in self.tree.body if isinstance(node, ast.FunctionDef) and node.name == name]
        return [
            part.value for node in functions for part in ast.walk(node) if isinstance(part, ast.Return) and part.value
        ]


class Resolver:
    """Finds what an expression says, across the modules of a package.

    Args:
        package: Folder of the package.
    """

    def __init__(self, package: Path) -> None:
        files = {path.relative_to(package).as_posix(): path for path in sorted(package.rglob("*.py"))}
        self._modules = {name: Module(name, path.read_text(encoding="utf-8")) for name, path in files.items()}

    def modules(self) -> Iterator[Module]:
        """All modules, by name."""
        return iter(self._modules.values())

    def texts(self, module: Module, at: ast.AST, expression: ast.expr, depth: int = 0) -> list[str]:
        """What an expression may say: one text for each alternative; a hole where nothing is known.

        Args:
            module: Where it stands.
            at: A node near it, for names set in the same function.
            expression: The expression.
            depth: How many names were followed already.
        """
        if isinstance(expression, ast.Constant) and isinstance(expression.value, str):
            return [" ".join(expression.value.split())] if expression.value else []
        if isinstance(expression, ast.JoinedStr):
            return [" ".join("".join(self._part(module, part) for part in expression.values).split())]
        if isinstance(expression, ast.BinOp) and isinstance(expression.op, ast.Add):
            sides = [self.texts(module, at, side, depth) or [""] for side in (expression.left, expression.right)]
            return [one + other for one in sides[0] for other in sides[1]]
        if isinstance(expression, ast.IfExp):
            sides = [self.texts(module, at, side, depth) for side in (expression.body, expression.orelse)]
            return [text for side in sides for text in side]
        if depth < _DEEPEST:
            found = [
                text
                for other, value in self._meant(module, at, expression)
                for text in self.texts(other, value, value, depth + 1)
            ]
            if found:
                return list(dict.fromkeys(found))
        return [HOLE.format(named(expression))]

    def _meant(self, module: Module, at: ast.AST, expression: ast.expr) -> list[tuple[Module, ast.expr]]:
        """What a name was set to, or what a function of the package returns."""
        if isinstance(expression, ast.Name):
            near = module.assigned(module.function_of(at), expression.id) or module.assigned(module.tree, expression.id)
            if near:
                return [(module, value) for value in near if not isinstance(value, ast.Call)]
            other = self._imported(module, expression.id)
            return [(other, value) for value in other.assigned(other.tree, expression.id)] if other else []
        if isinstance(expression, ast.Call) and isinstance(expression.func, ast.Name):
            return [(module, value) for value in module.returned(expression.func.id)]
        return []

    def _imported(self, module: Module, name: str) -> Module | None:
        for node in module.tree.body:
            if isinstance(node, ast.ImportFrom) and node.module and any(part.name == name for part in node.names):
                path = node.module.removeprefix("changen_cli.").replace(".", "/")
                return self._modules.get(f"{path}.py") or self._modules.get(f"{path}/__init__.py")
        return None

    def pairs(self, module: Module) -> Iterator[tuple[str, str]]:
        """Messages with their fix that a function called ``_words`` returns, for one that raises them."""
        for value in module.returned("_words"):
            if isinstance(value, ast.Tuple) and len(value.elts) == 2:
                fix = " / ".join(self.texts(module, value, value.elts[1]))
                yield from ((text, fix) for text in self.texts(module, value, value.elts[0]))

    def _constant(self, module: Module, name: str) -> str:
        """The text or whole number a name in capitals stands for, here or where it comes from; else nothing."""
        where = module if module.assigned(module.tree, name) else self._imported(module, name)
        found = where.assigned(where.tree, name) if where and name.isupper() else []
        return str(found[0].value) if found and isinstance(found[0], ast.Constant) else ""

    def _part(self, module: Module, part: ast.expr) -> str:
        if isinstance(part, ast.Constant):
            return str(part.value)
        assert isinstance(part, ast.FormattedValue)
        value = part.value
        if isinstance(value, ast.Name) and self._constant(module, value.id):
            return self._constant(module, value.id)
        if isinstance(value, ast.IfExp) and all(isinstance(side, ast.Constant) for side in (value.body, value.orelse)):
            one, other = (str(side.value) for side in (value.body, value.orelse) if isinstance(side, ast.Constant))
            return f"({one or other})" if not one or not other else f"{one}/{other}"
        if isinstance(value, ast.BinOp) and isinstance(value.op, ast.Mult) and isinstance(value.left, ast.Constant):
            return f"({value.left.value})"  # the s of a plural
        return HOLE.format(named(value))


def named(expression: ast.expr) -> str:
    """A word for a value: the last name in the expression that makes it."""
    match expression:
        case ast.Name(id=name) | ast.Attribute(attr=name):
            word = name.strip("_").lower()
            return _SAME.get(word, word).replace("_", " ")
        case ast.Subscript(value=value) | ast.FormattedValue(value=value) | ast.Starred(value=value):
            return named(value)
        case ast.Call(func=ast.Attribute(attr="join"), args=[first, *_]):
            return named(first)
        case ast.Call(func=ast.Name(id=name), args=[first, *_]) if name in _WRAPPERS:
            return named(first)
        case ast.Call(func=ast.Attribute(value=value, attr=name)):
            return named(value if name in _METHODS else ast.Name(name))
        case ast.Call(func=func):
            return named(func)
        case ast.BinOp(left=left):
            return named(left)
        case ast.BoolOp(values=[first, *_]) | ast.IfExp(body=first):
            return named(first)
        case ast.GeneratorExp(elt=element) | ast.ListComp(elt=element):
            return named(element)
        case ast.JoinedStr(values=values):
            return next((named(value) for value in values if isinstance(value, ast.FormattedValue)), "…")
    return "…"
