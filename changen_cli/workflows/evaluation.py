"""``OUT/evaluation.json``: what was measured of a dataset; it also stands in the dataset's card."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from changen_cli import __version__
from changen_cli.core.files import write_text
from changen_cli.core.lock import OutputLock
from changen_cli.core.manifest import read_manifest
from changen_cli.core.untrusted import read_json, read_text
from changen_cli.writers.card import replace_section
from changen_cli.writers.card_tables import EVALUATION_TITLE, evaluation_section

FILE_NAME = "evaluation.json"
FORMAT = 1
RIVALS = {"ours": "this dataset", "label_exchange": "label exchange", "copy_paste": "copy-paste"}
"""What detectors learn from, as keys of ``usefulness`` end, and as people read it."""
_WORDS = {
    "difference": "colour difference",
    "difference_smoothed": "smoothed difference",
    "contrast": "local contrast",
    "sharpness": "sharpness",
    "noise": "noise",
    "jpeg_grid": "JPEG blocks",
}


def read_evaluation(root: Path, checksums: str) -> dict[str, Any]:
    """The figures beside a dataset; empty without any, or where they are of an earlier state of it.

    Args:
        root: The dataset folder.
        checksums: What the manifest says of its files.
    """
    try:
        found = read_json(root / FILE_NAME)
    except (OSError, ValueError):
        return {}
    if not isinstance(found, dict) or found.get("dataset", checksums) != checksums:
        return {}
    return found


def update_evaluation(out: Path, sections: Mapping[str, Any]) -> dict[str, Any]:
    """Put sections into ``OUT/evaluation.json``, keep its others, and tell them in the dataset's card.

    Neither file is among those with checksums. Of the card only the section about this is written anew.

    Args:
        out: A finished dataset.
        sections: Key → plain values, as docs/evaluate.md lists them.

    Returns:
        The whole content.

    Raises:
        LockedError: A run writes to the dataset.
        OutputError: The manifest cannot be read.
    """
    with OutputLock(out):
        checksums = read_manifest(out).checksums
        content = read_evaluation(out, checksums) | dict(sections)
        content = {"format": FORMAT, "changen": __version__, "dataset": checksums} | content
        content["changen"] = __version__
        write_text(out / FILE_NAME, json.dumps(content, ensure_ascii=False, allow_nan=False, indent=1) + "\n")
        card = out / "README.md"
        if card.is_file():
            section = evaluation_section({"evaluation": card_figures(content)})
            write_text(card, replace_section(read_text(card), EVALUATION_TITLE, section))
    return content


def card_figures(content: Mapping[str, Any]) -> dict[str, Any]:
    """Label → value, for people; plain values of a file that somebody else wrote as they are."""
    if content.get("format") != FORMAT:
        plain = {key: value for key, value in content.items() if isinstance(value, str | int | float)}
        return {key: f"{value:.4g}" if isinstance(value, float) else value for key, value in plain.items()}
    try:
        return dict(_rows(content))
    except (KeyError, TypeError, ValueError, AttributeError):  # a file somebody changed is no reason to have no card
        return {}


def _rows(content: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    looked, real = content.get("looked_at") or {}, content.get("real") or {}
    if looked:
        told = f", beside {real['pairs']:,} real ones ({real['name']})" if real else ""
        yield "looked at", f"{looked['pairs']:,} pairs of dates of {looked['places']:,} places{told}"
    if exact := content.get("exactness"):
        yield "labels, events and masks", f"{exact['errors']:,} errors, {exact['warnings']:,} warnings"
    shortcuts = content.get("shortcuts") or {}
    if "identical_share" in shortcuts:
        yield "unchanged pixels that are bit-identical", number(shortcuts["identical_share"], "share")
    for kind, what in (("change", "what changed"), ("date", "which date is later")):
        for cue, row in (shortcuts.get(kind) or {}).items():
            yield f"{_WORDS.get(cue, cue)} tells {what}, ROC AUC", judged(row, "auc")
    for cue, row in (shortcuts.get("balance") or {}).items():
        yield f"{_WORDS.get(cue, cue)} of later over earlier dates", judged(row, "ratio")
    for name, row in (content.get("statistics") or {}).items():
        values = [f"{column} {number(row[column], name)}" for column in ("asked", "made", "real") if column in row]
        yield name.replace("_", " "), ", ".join(values)
    for section in ("likeness", "usefulness"):
        figures = content.get(section) or {}
        if section == "usefulness" and "f1_ours" in figures:
            yield from _detectors(figures)
            continue
        for name, value in figures.items():
            if isinstance(value, str | int | float):
                yield f"{section}: {name.replace('_', ' ')}", number(value)


def _detectors(figures: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """What detectors learned from the dataset and from cheaper pairs, a row each."""
    yield "detectors tested, zero-shot, on", f"{figures['tested_on']}, {figures['tested_pairs']:,} pairs"
    names = {"f1": "F1", "iou": "IoU", "ap": "AP", "area_ratio": "area said over true"}
    for rival, told in RIVALS.items():
        if f"f1_{rival}" not in figures:
            continue
        values = [f"{shown} {number(figures[f'{key}_{rival}'])}" for key, shown in names.items()]
        if f"false_alarm_share_{rival}" in figures:
            alarms = number(figures[f"false_alarm_share_{rival}"], "share")
            values.append(f"false alarms on {figures['unchanged_pairs']:,} pairs without change {alarms}")
        yield f"a detector that learned from {told}", ", ".join(values)


def judged(row: Mapping[str, Any], key: str) -> str:
    """One cue with its error, its bar and its verdict."""
    if row[key] is None:
        return f"cannot be told: {row['verdict']}"
    real = f", real {row[f'real_{key}']:.2f}" if row.get(f"real_{key}") is not None else ""
    bar = f"at most {row['bar']:.2f}" if key == "auc" else f"1 ± {row['bar']:.2f}"
    return f"{row[key]:.3f} ± {row['error']:.3f}{real}, wanted {bar}: **{row['verdict']}**"


def number(value: Any, name: str = "") -> str:
    """A figure as people write it; shares in percent."""
    if value is None:
        return "–"
    if isinstance(value, str | int):
        return str(value)
    return f"{value:.2%}" if name.endswith("share") else f"{value:.4g}"
