"""What MkDocs is told beyond ``mkdocs.yml``: pages that lie outside ``docs/``, and that a site fetches nothing."""

from __future__ import annotations

import logging
import re
from pathlib import Path
from typing import Any

from mkdocs.structure.files import File, Files

ROOT = Path(__file__).resolve().parents[1]
OUTSIDE = {"CONTRIBUTING.md": "contributing.md", "CHANGELOG.md": "changelog.md"}
"""Files beside ``docs/`` → what they are called on the site."""
_LOADED = re.compile(
    r"<(?:script|img|iframe|source|video|link(?=[^>]*stylesheet|[^>]*icon|[^>]*preconnect))\b[^>]*"
    r"(?:src|href)=[\"']?(?:https?:)?//[^\"'\s>]+"
    r"|(?:@import\s*|url\()\s*[\"']?(?:https?:)?//[^\"')\s]+"
)
log = logging.getLogger("mkdocs.hooks.site")


def on_files(files: Files, config: Any) -> Files:
    """Add the pages that lie beside ``docs/``, with their links as seen from there."""
    for name, page in OUTSIDE.items():
        text = (ROOT / name).read_text(encoding="utf-8").replace("](docs/", "](")
        files.append(File.generated(config, page, content=text))
    return files


def on_page_markdown(markdown: str, **_: Any) -> str:
    """Let links that lead out of ``docs/`` lead to the pages added."""
    for name, page in OUTSIDE.items():
        markdown = markdown.replace(f"](../{name}", f"]({page}")
    return markdown


def on_post_build(config: Any) -> None:
    """Warn, which fails a strict build, of everything a page would load from elsewhere."""
    for path in sorted(Path(config["site_dir"]).rglob("*")):
        if path.suffix in (".html", ".css"):
            for found in _LOADED.findall(path.read_text(encoding="utf-8")):
                log.warning("%s loads something from elsewhere: %s", path.name, found[:200])
