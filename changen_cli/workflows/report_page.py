"""The page of a report: bundled HTML, styles and scripts, joined with data into one file that needs nothing else."""

from __future__ import annotations

import base64
import hashlib
import html
import json
from collections.abc import Iterable, Sequence
from functools import cache
from pathlib import Path
from string import Template
from typing import Any

import changen_cli
from changen_cli.exports.master import Master
from changen_cli.workflows.evaluation import read_evaluation
from changen_cli.workflows.ledger import noted_counts
from changen_cli.workflows.report_index import Entry, Index
from changen_cli.workflows.report_rejects import rejects
from changen_cli.workflows.report_sample import plain
from changen_cli.writers.drawing import LOOKS

PARTS = Path(changen_cli.__file__).parent / "data" / "report"
STYLES = ("base.css", "gallery.css", "viewer.css")
SCRIPTS = (
    "base.js",
    "store.js",
    "charts.js",
    "gallery.js",
    "rejects.js",
    "stage.js",
    "panel.js",
    "viewer.js",
    "main.js",
)
_ESCAPES = {ord(letter): f"\\u{ord(letter):04x}" for letter in "<>&\u2028\u2029"}
_MAX_FIGURES = 200
_NO_TINT = (0, 0, 0)


def script_json(value: Any) -> str:
    """JSON that can stand inside ``<script>``, whatever texts it holds."""
    return json.dumps(plain(value), separators=(",", ":")).translate(_ESCAPES)


def page(data: dict[str, Any], samples: Iterable[tuple[int, str]], *, served: bool = False) -> Iterable[str]:
    """The pieces of the page, in order.

    Args:
        data: What :func:`overview` returns.
        samples: Number and :func:`script_json` of the samples that are in the page.
        served: Whether samples and pictures come from the server instead.
    """
    style, script = (_joined(names) for names in (STYLES, SCRIPTS))
    template = Template((PARTS / "page.html").read_text(encoding="utf-8"))
    policy = content_policy(served=served)
    marker = "<!-- samples -->"
    text = template.substitute(
        policy=html.escape(policy),
        title=html.escape(f"{data['name']} – changen report"),
        style=style,
        script=script,
        data=script_json(data),
        samples=marker,
    )
    head, tail = text.split(marker)
    yield head
    for number, sample in samples:
        yield f'<script type="application/json" id="sample-{number}">{sample}</script>\n'
    yield tail


@cache
def content_policy(*, served: bool = False) -> str:
    """What the page may load and run: its own script and styles, known by their hashes, and no address elsewhere."""
    style, script = (_digest(_joined(names)) for names in (STYLES, SCRIPTS))
    own = " 'self'" if served else ""
    rules = {
        "default-src": "'none'",
        "script-src": script,
        "style-src": style,
        "img-src": f"data:{own}",
        "connect-src": own.strip() or "'none'",
        "base-uri": "'none'",
        "form-action": "'none'",
    }
    return "; ".join(f"{rule} {value}" for rule, value in rules.items())


@cache
def _joined(names: tuple[str, ...]) -> str:
    return "\n" + "\n".join((PARTS / name).read_text(encoding="utf-8") for name in names)


def _digest(text: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode('utf-8')).digest()).decode('ascii')}'"


def overview(master: Master, index: Index, shown: Sequence[Entry], *, served: bool = False) -> dict[str, Any]:
    """What the page says of the dataset as a whole.

    Args:
        master: The dataset.
        index: Its entries and figures.
        shown: Entries of the samples the page can show, in order.
        served: Whether samples and pictures come from the server.
    """
    schema, kinds = master.schema, index.kinds
    looks = {str(kind): look for kind, look in LOOKS.items()}
    places = {kind: place for place, kind in enumerate(kinds)}
    return {
        "name": master.name,
        "served": served,
        "total": len(index.entries),
        "has_images": master.has_images,
        "kinds": [
            {"key": kind, "word": looks.get(kind, (kind,))[0], "color": _hex(looks[kind][1] if kind in looks else ())}
            for kind in kinds
        ],
        "classes": [
            {"name": name, "color": _hex(color), "clear": tuple(color) == _NO_TINT}
            for name, color in zip(schema.names, schema.colors.tolist(), strict=True)
        ],
        "facts": _facts(master, index),
        "figures": index.figures,
        "audit": _audit(master),
        "rejects": rejects(master.root),
        "samples": [
            {
                "n": entry.number,
                "id": entry.id,
                "kinds": [places[kind] for kind in entry.kinds],
                "classes": entry.classes,
                "share": entry.share,
                "events": entry.events,
                "dates": entry.dates,
            }
            | ({"rejected": entry.rejected} if entry.rejected else {})
            for entry in shown
        ],
    }


def _hex(color: Sequence[int]) -> str:
    return "#" + bytes(color).hex() if len(color) else "#8a94a0"


def _facts(master: Master, index: Index) -> list[tuple[str, str]]:
    """Label and value, for the head of the page."""
    manifest: dict[str, Any] = master.manifest
    inner = {
        key: value if isinstance(value := manifest.get(key), dict) else {}
        for key in ("source", "model", "versions", "statistics")
    }
    without = sum(not entry.events for entry in index.entries)
    rejected = sum(bool(entry.rejected) for entry in index.entries)
    facts = [
        ("samples", f"{len(index.entries):,}"),
        ("events", f"{sum(entry.events for entry in index.entries):,}"),
        ("without change", f"{without:,}" if without else ""),
        ("with rejected attempts", f"{rejected:,}" if rejected else ""),
        (
            "dropped by the gate",
            ", ".join(f"{why} {count}" for why, count in noted_counts(inner["statistics"]).items()),
        ),
        ("source", str(inner["source"].get("name") or inner["source"].get("description") or "")),
        ("licence", ", ".join(map(str, inner["source"].get("license") or ()))),
        ("model", str(inner["model"].get("id") or "")),
        ("made with", f"changen {inner['versions'].get('changen', '')}".strip()),
        ("status", str(manifest.get("status")) if manifest.get("status") != "complete" else ""),
    ]
    return [(label, value[:300]) for label, value in facts if value]


def _audit(master: Master) -> list[tuple[str, Any]]:
    """The figures of ``evaluation.json``, names of nested ones joined; none without such a file."""
    found = read_evaluation(master.root, str(master.manifest.get("checksums", "")))
    return _flat("", plain(found))[:_MAX_FIGURES]


def _flat(name: str, value: Any) -> list[tuple[str, Any]]:
    if isinstance(value, dict):
        parts = [_flat(f"{name}.{key}" if name else key, inner) for key, inner in value.items()]
        return [figure for part in parts for figure in part]
    return [(name, value)] if isinstance(value, str | int | float) and name else []
