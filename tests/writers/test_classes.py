"""``classes.json``."""

from __future__ import annotations

import json

from changen_cli.writers.classes import write_classes


def test_ids_colours_and_transition_codes(schema, tmp_path):
    table = json.loads(write_classes(tmp_path, schema).read_text())
    assert [(c["id"], c["name"]) for c in table["classes"]] == [(0, "background"), (1, "building"), (2, "road")]
    assert [c["color"] for c in table["classes"]] == schema.colors.tolist()
    assert table["ignore_index"] == 255
    codes = {c["code"]: c["name"] for c in table["transition_code"]["codes"]}
    assert codes[1] == "background -> building" and codes[3] == "building -> background"
    assert sorted(codes) == [1, 2, 3, 5, 6, 7]
    assert all(c["code"] == c["from"] * 3 + c["to"] for c in table["transition_code"]["codes"])
