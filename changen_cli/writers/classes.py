"""``classes.json``: what the values in the masks mean."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from changen_cli.core.files import write_text
from changen_cli.core.types import ClassSchema


def class_table(schema: ClassSchema) -> dict[str, Any]:
    """Return class ids, names, colours, the ignore value and the transition codes as JSON values.

    A transition code is ``from * K + to`` for K classes. Codes of unchanged pixels (from = to) are left out.
    """
    count = len(schema.names)
    colors = schema.colors.tolist()
    return {
        "classes": [{"id": i, "name": name, "color": colors[i]} for i, name in enumerate(schema.names)],
        "ignore_index": schema.ignore_index,
        "change_mask": {"unchanged": 0, "changed": 255},
        "transition_code": {
            "formula": "from * K + to",
            "K": count,
            "codes": [
                {"code": a * count + b, "from": a, "to": b, "name": f"{schema.names[a]} -> {schema.names[b]}"}
                for a in range(count)
                for b in range(count)
                if a != b
            ],
        },
    }


def write_classes(out: Path, schema: ClassSchema) -> Path:
    """Write ``OUT/classes.json`` and return its path."""
    path = out / "classes.json"
    write_text(path, json.dumps(class_table(schema), indent=2, ensure_ascii=False) + "\n")
    return path
