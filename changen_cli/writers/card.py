"""``OUT/README.md``: the dataset card, with the YAML front matter the Hub and ``datasets`` read."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from changen_cli.core.files import write_text
from changen_cli.writers.card_front import front_matter
from changen_cli.writers.card_tables import (
    KINDS,
    cell,
    changes_section,
    classes_table,
    columns_section,
    evaluation_section,
    figures_table,
    recipe_section,
    table,
)

CITATION = """\
@article{zheng2025changen2,
  title   = {Changen2: Multi-Temporal Remote Sensing Generative Change Foundation Model},
  author  = {Zheng, Zhuo and Ermon, Stefano and Kim, Dongjun and Zhang, Liangpei and Zhong, Yanfei},
  journal = {IEEE Transactions on Pattern Analysis and Machine Intelligence},
  volume  = {47},
  number  = {2},
  pages   = {725--741},
  year    = {2025},
  note    = {arXiv:2406.17998}
}"""

_FILES = (
    ("README.md", "this card"),
    ("manifest.json", "what the run promised and did"),
    ("classes.json", "ids, names, colours, ignore value, transition codes"),
    ("checksums.sha256", "SHA-256 of every file below; sha256sum -c reads it"),
)
_FILES_FOLDER = (
    ("{split}/metadata.jsonl", "one row per sample"),
    ("{split}/images/<sample>_t0.{suffix}", "one image per date, t0 is the source"),
    ("{split}/masks/<sample>_t0.{suffix}", "one semantic mask per date"),
    ("{split}/instances/<sample>_t0.{suffix}", "one instance mask per date: object numbers"),
    ("{split}/objects/<sample>.json", "the object id of every number"),
    ("{split}/changes/<sample>_t0_t1.{suffix}", "one change mask per step"),
    ("{split}/events/<sample>.jsonl", "one row per event"),
)
_FILES_PARQUET = (("{data_dir}/{split}-*.parquet", "one row per sample, pixels embedded as PNG"),)


def write_card(out: Path, facts: Mapping[str, Any]) -> Path:
    """Write ``OUT/README.md`` and return its path. See :func:`render_card` for the facts."""
    path = out / "README.md"
    write_text(path, render_card(facts))
    return path


def render_card(facts: Mapping[str, Any]) -> str:
    """Render the card.

    Args:
        facts: Plain values; only the first three are required.

            - ``layout``: ``folder`` or ``parquet``
            - ``splits``: split name → number of samples
            - ``dates``: dates per sample
            - ``calendar``: the calendar dates of a series, if it has any
            - ``images``: whether the samples have images; True if not given
            - ``name``: title of the dataset
            - ``repo_id``, ``config_name``, ``data_dir``: where it lies on the Hub; data_dir is ``data`` if not given
            - ``dataset_info``: see :func:`changen_cli.writers.card_front.dataset_info`
            - ``classes``, ``colors``: class names in id order, and their colours as ``#rrggbb``
            - ``columns``: name and type of every column
            - ``license``, ``license_reason``: Hub identifier, default ``other``; why it is that
            - ``license_known``: whether that may be published without anybody deciding more; True if not given
            - ``event_kinds``, ``step_count``, ``seed``: what was simulated
            - ``proposals``: what the masks are, if they are proposals and not labels
            - ``damage``: one line on what damages buildings and which states are shown
            - ``gate``: one line on what the quality gate rejected
            - ``unchanged``: one line on how unchanged pixels and date 0 were treated
            - ``model``, ``model_license``, ``model_sha256``: the generator; no model: no line
            - ``version``: version of changen
            - ``versions``, ``recipe``: versions of all libraries; the recipe as YAML
            - ``georeferenced``: whether the images carry a georeference
            - ``sources``: list of ``{"name", "license", "attribution"}``, all but ``name`` optional
            - ``figures``: label → value, for a short table (changed share, events, …)
            - ``changes``: ``kinds`` and ``pairs``, see :class:`changen_cli.workflows.describe.Tally`
            - ``evaluation``: quality figure → value
            - ``preview``: file name of a contact sheet beside the card

    Returns:
        Markdown with YAML front matter.

    Raises:
        KeyError: A required fact is missing.
    """
    sections = [
        _intro(facts),
        _load(facts),
        _how(facts),
        figures_table(facts),
        recipe_section(facts),
        changes_section(facts),
        evaluation_section(facts),
        _tree(facts),
        _values(facts),
        columns_section(facts),
        _limits(facts),
        _origin(facts),
    ]
    return f"---\n{front_matter(facts)}---\n\n" + "\n\n".join(section for section in sections if section) + "\n"


def replace_section(card: str, title: str, section: str) -> str:
    """Write one section of a card anew and leave the rest as it is, whatever its owner wrote there.

    Args:
        card: The whole card.
        title: Of the section, without dashes.
        section: Its new text with the title; empty removes it. A new one goes before the files.
    """
    parts = re.split(r"^(?=## )", card, flags=re.MULTILINE)
    kept = [part for part in parts if part.partition("\n")[0].strip() != f"## {title}"]
    if section:
        places = [number for number, part in enumerate(kept) if part.startswith("## Files\n")]
        where = places[0] if places else len(kept)
        kept[where - 1] = f"{kept[where - 1].rstrip()}\n\n"
        kept.insert(where, f"{section}\n\n" if where < len(kept) else f"{section}\n")
    return "".join(kept)


def _has_images(facts: Mapping[str, Any]) -> bool:
    return bool(facts.get("images", True))


def _intro(facts: Mapping[str, Any]) -> str:
    splits: Mapping[str, int] = facts["splits"]
    counts = ", ".join(f"{count:,} in `{split}`" for split, count in sorted(splits.items()))
    *first, last = _kinds(facts)
    kinds = f"{', '.join(first)} and {last}" if first else last
    preview = f"\n\n![Samples with their masks and largest changes]({facts['preview']})" if facts.get("preview") else ""
    labels = "exact change masks" if facts.get("proposals") else "exact labels"
    if _has_images(facts):
        made = (
            f"Overhead image time series with {labels}: {counts}, {facts['dates']} dates each. **Date 0 shows a real "
            f"image; every later date is generated** from it by simulated {kinds}, so no later image shows"
        )
    else:
        made = (
            f"Time series of semantic masks with {labels}, **without images**: {counts}, {facts['dates']} dates each. "
            "**Date 0 is the mask of a real image**, which `source_path` names relative to the source folder; **every "
            f"later date is simulated** from it by {kinds}, so no later mask shows"
        )
    return (
        f"# {facts.get('name', 'Synthetic change series')}\n\n{made} what happened at "
        "that place. Each sample has one semantic mask per date, one change mask per step, and a log of every change. "
        f"Made with changen{' ' + str(facts['version']) if facts.get('version') else ''}, an implementation of the "
        f"generator described in Changen2.{preview}"
    )


def _kinds(facts: Mapping[str, Any]) -> list[str]:
    return [KINDS.get(kind, kind) for kind in facts.get("event_kinds") or ("create", "remove")]


def _how(facts: Mapping[str, Any]) -> str:
    dates = int(facts["dates"])
    lines = [
        f"- **Events**: {', '.join(_kinds(facts))}; {facts.get('step_count', dates - 1)} step(s) per series.",
        "- **Labels are exact by construction**: "
        + ("the simulated mask conditions the image; " if _has_images(facts) else "")
        + "the change mask is where two semantic masks differ.",
    ]
    if facts.get("proposals"):
        lines[1] = (
            f"- **Semantic masks are {facts['proposals']}**: a class says that there is some object, not what it is, and "
            "many objects have none. **Change masks are exact**: they hold the pixels of the objects that were changed."
        )
    if facts.get("damage"):
        lines.append(f"- **Damage**: {facts['damage']}. Classes follow xBD's joint damage scale.")
    if facts.get("calendar"):
        lines.append(
            f"- **Calendar**: {', '.join(facts['calendar'])}. These dates were asked for: they say how far apart the states "
            "are meant to be, not when anything was seen."
        )
    if facts.get("unchanged"):
        lines.append(f"- **Unchanged pixels**: {facts['unchanged']}")
    if facts.get("gate"):
        lines.append(
            f"- **Quality gate**: {facts['gate']}. The column `quality` and the events hold what was measured of each "
            "sample that was kept."
        )
    if facts.get("model"):
        licence = f", licence: {facts['model_license']}" if facts.get("model_license") else ""
        digest = f", SHA-256 `{facts['model_sha256']}`" if facts.get("model_sha256") else ""
        note = ". The licence of a model can extend to what it generates" if licence or digest else ""
        lines.append(f"- **Model**: `{facts['model']}`{licence}{digest}{note}.")
    if facts.get("seed") is not None:
        lines.append(f"- **Seed**: {facts['seed']}; `manifest.json` holds the whole recipe.")
    return "## How it was made\n\n" + "\n".join(lines)


def _tree(facts: Mapping[str, Any]) -> str:
    split = _first_split(facts)
    folder = facts["layout"] == "folder"
    names = {
        "split": split,
        "suffix": "tif" if facts.get("georeferenced") else "png",
        "data_dir": facts.get("data_dir", "data"),
    }
    files = [
        (name.format(**names), text)
        for name, text in (*_FILES, *(_FILES_FOLDER if folder else _FILES_PARQUET))
        if _has_images(facts) or "/images/" not in name
    ]
    width = max(len(name) for name, _ in files)
    tree = "\n".join(f"{name:{width}}  {text}" for name, text in files)
    note = ""
    if facts.get("georeferenced"):
        note = (
            f"\n\n{'Images and masks' if _has_images(facts) else 'Masks'} are Cloud Optimized GeoTIFFs with the CRS and the "
            "transform of the tile."
            if folder
            else "\n\nThe columns `crs` and `transform` hold the georeference of each tile (rasterio order)."
        )
    return f"## Files\n\n```\n{tree}\n```{note}"


def _values(facts: Mapping[str, Any]) -> str:
    classes = classes_table(facts)
    return (
        "## Values\n\n"
        "- Semantic mask: class ids, 255 = ignore (unknown; it never changes).\n"
        "- Instance mask: 16-bit object numbers, 0 = no object; an object keeps its number through the series.\n"
        "- Change mask: 0 = unchanged, 255 = changed; equal to `mask[t] != mask[t+1]` for every pixel.\n"
        "- Transition code: `from * K + to` for K classes; `classes.json` lists them.\n"
        "- Events: `step` t leads from date t to date t+1; boxes are half-open `[row0, col0, row1, col1]`; polygons "
        "are WKT in pixels `(col row)` and fill to exactly the changed pixels." + (f"\n\n{classes}" if classes else "")
    )


def _load(facts: Mapping[str, Any]) -> str:
    split = _first_split(facts)
    more = int(facts["dates"]) > 2
    kinds = ("image", "mask") if _has_images(facts) else ("mask",)
    first = ", ".join(f"`{name}`" for name in (*(f"t{t}_{kind}" for kind in kinds for t in (1, 2)), "change_mask"))
    if facts["layout"] == "parquet":
        extra = ", ".join(f"`t3_{kind}` …" for kind in kinds) + ", and `change_masks`, the change mask of every step"
        extra = f", {extra}"
    else:
        extra = f"; the lists {', '.join(f'`{kind}`' for kind in kinds)} and `change` hold all dates and steps"
    extra += ". `change_mask` is the one from `t1` to `t2`."
    shapes = 'row["t1_image"]: [H, W, 3]; row["t1_mask"], row["change_mask"]: [H, W]'
    repo = facts.get("repo_id") or "path/or/hub-id"
    config = facts.get("config_name", "default")
    name = f'"{repo}"' if config == "default" else f'"{repo}", "{config}"'
    reader = (
        "\n\nThese are the columns torchange reads (`HFBitemporalDataset`): give the dataset's name as `hf_repo_name`."
    )
    return (
        "## Loading\n\n```python\nfrom datasets import load_dataset\n\n"
        f'data = load_dataset({name}, split="{split}").with_format("numpy")\n'
        f"row = data[0]  # {shapes if _has_images(facts) else shapes.partition('; ')[2]}\n```\n\n"
        f"Column `t1` is date 0: {first}, `image_name`{extra if more else '.'}{reader if _has_images(facts) else ''}"
    )


def _limits(facts: Mapping[str, Any]) -> str:
    lines = [
        "- No later date was ever seen: use it to train and to test methods, not to learn what happened anywhere.",
        "- How often and where things change follows the recipe, not a region's real dynamics.",
    ]
    if _has_images(facts):
        lines.append(
            "- Generated pixels can carry traces that real ones do not; a detector trained on this dataset alone can learn "
            "them. Test on real pairs."
        )
    lines.append(
        "- Samples of one `group` show one place. Split by `group`: samples of a place in training and test overlap."
    )
    if not facts.get("proposals"):
        lines.append("- Errors of the source's labels at date 0 stay in every date; the change between dates is exact.")
    return "## Limits\n\n" + "\n".join(lines)


def _origin(facts: Mapping[str, Any]) -> str:
    rows = [
        (source["name"], source.get("license") or "not stated", source.get("attribution") or "")
        for source in facts.get("sources") or ()
    ]
    text = "Not stated. Add the images' origin and licence before publishing this dataset."
    if rows:
        text = table(("made from", "licence", "credit"), rows)
    reason = cell(facts.get("license_reason") or "")
    if not facts.get("license_known", True):
        text = f"**Nobody has said under which licence this dataset may be used.** {reason}\n\n{text}"
    elif facts.get("license"):
        text = f"Licence: `{facts['license']}`. {reason}".rstrip() + f"\n\n{text}"
    return (
        f"## Sources and licence\n\n{text}\n\nThe conditions of the source images and of the model apply to this dataset.\n\n"
        f"## Citation\n\n```bibtex\n{CITATION}\n```"
    )


def _first_split(facts: Mapping[str, Any]) -> str:
    """The split an example shows: train, where there is one."""
    return "train" if "train" in facts["splits"] else min(facts["splits"], default="train")
