"""The documentation hangs together, on GitHub and as a site: links, anchors, navigation, pages written from the code."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import unicodedata
from functools import cache
from itertools import pairwise
from pathlib import Path

import pytest
import yaml
from PIL import Image
from typer.main import get_command

from changen_cli.cli.app import app

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
PAGES = sorted((*DOCS.glob("**/*.md"), *(ROOT / name for name in ("README.md", "CONTRIBUTING.md", "CHANGELOG.md"))))
ELSEWHERE = {"contributing.md", "changelog.md"}
"""Pages of the site that lie beside docs/, see tools/site_hooks.py."""
LINK = re.compile(r"\[(?:[^\[\]]|\[[^\]]*\])*\]\(([^()\s]+)\)")


@cache
def prose(path: Path) -> str:
    """A page without its code, whose lines stay empty."""
    text = re.sub(
        r"^( *)(```+).*?^\1\2$", lambda block: "\n" * block[0].count("\n"), path.read_text("utf-8"), flags=re.M | re.S
    )
    return re.sub(r"`[^`\n]+`", "`code`", text)


@cache
def anchors(path: Path) -> frozenset[str]:
    """Anchors of a page's headings that are the same on GitHub and on the site."""
    text = re.sub(r"^( *)(```+).*?^\1\2$", "", path.read_text("utf-8"), flags=re.M | re.S)
    heads = [re.sub(r"\[([^\]]+)\]\([^)]*\)|`", r"\1", head) for head in re.findall(r"^#+ (.+)$", text, flags=re.M)]
    return frozenset(github(head) for head in heads if github(head) == on_site(head))


def github(head: str) -> str:
    return re.sub(r"[^\w\- ]", "", head.strip().lower()).replace(" ", "-")


def on_site(head: str) -> str:
    plain = unicodedata.normalize("NFKD", head).encode("ascii", "ignore").decode()
    return re.sub(r"[-\s]+", "-", re.sub(r"[^\w\s-]", "", plain).strip().lower())


def pages_of(nav: object) -> list[str]:
    """Every page a navigation names."""
    if isinstance(nav, str):
        return [nav]
    parts = nav.values() if isinstance(nav, dict) else nav
    assert isinstance(parts, list | type({}.values()))
    return [page for part in parts for page in pages_of(part)]


def test_every_page_is_in_the_navigation_once() -> None:
    """A new page: one line under nav in mkdocs.yml."""
    named = pages_of(yaml.safe_load((ROOT / "mkdocs.yml").read_text("utf-8"))["nav"])
    assert sorted(named) == sorted({path.relative_to(DOCS).as_posix() for path in DOCS.glob("**/*.md")} | ELSEWHERE)


@pytest.mark.parametrize("page", PAGES, ids=lambda path: path.name)
def test_links_lead_somewhere(page: Path) -> None:
    wrong = []
    for link in LINK.findall(prose(page)):
        if re.match(r"https?://|mailto:", link):
            continue
        name, _, anchor = link.partition("#")
        target = (page.parent / name).resolve() if name else page
        inside = (
            target.is_relative_to(DOCS) or page.parent != DOCS or target.name in ("CONTRIBUTING.md", "CHANGELOG.md")
        )
        if not target.is_file() or not inside or (anchor and anchor not in anchors(target)):
            wrong.append(link)
    assert wrong == []


@pytest.mark.parametrize("tool", ["cli_reference", "error_reference", "api_reference"])
def test_pages_written_from_the_code_are_up_to_date(tool: str) -> None:
    command = [sys.executable, str(ROOT / "tools" / f"{tool}.py"), "--check"]
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_messages_that_troubleshooting_quotes_are_raised() -> None:
    quoted = re.findall(r"\*\*`([^`]+)`\*\*", (DOCS / "troubleshooting.md").read_text("utf-8"))
    known = (DOCS / "errors.md").read_text("utf-8").replace("\\", "")
    unknown = [text for text in quoted if not re.search(".*".join(map(re.escape, text.split("…"))), known)]
    assert len(quoted) >= 10
    assert unknown == []


@pytest.mark.parametrize("page", PAGES, ids=lambda path: path.name)
def test_lists_and_tables_are_seen_as_such_by_the_site(page: Path) -> None:
    """Markdown of the site wants an empty line before a list or table; GitHub does not, so nobody would notice."""
    lines = prose(page).splitlines()
    begins = re.compile(r"(?:[-*] |1\. |\|)")
    wrong = [
        line
        for before, line in pairwise(lines)
        if begins.match(line) and before.strip() and not re.match(r"[-*] |\d+\. |\||\s|#", before)
    ]
    wrong += [line for line in lines if re.match(r" {1,3}(?:[-*]|\d+\.) ", line)]  # below another: four spaces
    assert wrong == []


def test_pictures_are_used_described_and_light() -> None:
    text = "\n".join(path.read_text("utf-8") for path in PAGES)
    for path in sorted((DOCS / "images").iterdir()):
        assert re.search(rf"!\[[^\]]{{10,}}\]\([\w/]*images/{re.escape(path.name)}\)", text), (
            f"{path.name} is not shown"
        )
        assert path.stat().st_size < 700_000
        with Image.open(path) as picture:
            assert picture.format == "JPEG"


@pytest.mark.parametrize("page", [page for page in PAGES if page.name != "CHANGELOG.md"], ids=lambda path: path.name)
def test_commands_and_options_on_a_page_exist(page: Path) -> None:
    wrong = []
    for block in re.findall(r"^ *```.*?\n(.*?)^ *```$", page.read_text("utf-8"), flags=re.M | re.S):
        for line in re.findall(r"^(?:\$ )?changen (.+)$", block.replace("\\\n", " "), flags=re.M):
            words = re.sub(r"\s#.*|\[OPTIONS\].*|[|<>].*", "", line).split()
            known = [options_of(tuple(words[:count])) for count in (1, 2)]
            options = next((names for names in known if names is not None), None)
            unknown = {word.split("=")[0] for word in words if word.startswith("--")} - (options or frozenset())
            if options is None or unknown:
                wrong.append((line, unknown))
    assert wrong == []


@cache
def options_of(command: tuple[str, ...]) -> frozenset[str] | None:
    """The options of a command; None where there is no such command."""
    found = get_command(app)
    for word in command:
        found = getattr(found, "commands", {}).get(word)
    if found is None or hasattr(found, "commands"):
        return frozenset({"--help"}) if command == ("--help",) else None  # the root
    return frozenset(name for parameter in found.params for name in (*parameter.opts, *parameter.secondary_opts))
