"""What a dataset card tells, read from a finished dataset: its manifest, its rows and its event logs."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from changen_cli.core.errors import OutputError
from changen_cli.core.licences import Licence, dataset_licence
from changen_cli.core.manifest import Manifest, read_manifest
from changen_cli.core.nuisance import nuisance_name
from changen_cli.exports.master import Master, open_master
from changen_cli.exports.reading import Row
from changen_cli.workflows.evaluation import card_figures, read_evaluation
from changen_cli.workflows.ledger import noted_counts, rejected_line
from changen_cli.writers.card_front import dataset_info
from changen_cli.writers.card_tables import AREA_EDGES_PX

_FILE_KEYS = ("_file_name", "_file_names")


class Tally:
    """Running figures over the rows and events of a dataset; memory does not grow with it.

    Attributes:
        samples: Split → samples.
    """

    def __init__(self) -> None:
        self.samples: Counter[str] = Counter()
        self._groups: set[str] = set()
        self._sizes: set[tuple[int, int]] = set()
        self._gsd_m: set[float] = set()
        self._negatives = self._events = 0
        self._shares, self._share_sum = 0, 0.0
        self._kinds: dict[str, Row] = {}
        self._pairs: dict[tuple[str, str, str], Row] = {}

    def add(self, row: Row, events: Sequence[Row]) -> None:
        """Note one sample."""
        self.samples[str(row["split"])] += 1
        self._groups.add(str(row["group"]))
        self._sizes.add((int(row["height"]), int(row["width"])))
        if row.get("gsd_m"):
            self._gsd_m.add(round(float(row["gsd_m"]), 3))
        self._events += len(events)
        if row.get("negative"):
            self._negatives += 1
        else:
            self._shares += len(row["changed_fraction"])
            self._share_sum += sum(row["changed_fraction"])
        for event in events:
            self._add_event(event)

    def _add_event(self, event: Row) -> None:
        kind, area = str(event["kind"]), int(event["area_px"])
        found = self._kinds.setdefault(
            kind,
            {
                "kind": kind,
                "events": 0,
                "area_px": 0,
                "smallest_px": area,
                "largest_px": area,
                "histogram": [0] * len(AREA_EDGES_PX),
            },
        )
        found["events"] += 1
        found["area_px"] += area
        found["smallest_px"], found["largest_px"] = min(found["smallest_px"], area), max(found["largest_px"], area)
        found["histogram"][int(np.searchsorted(AREA_EDGES_PX, area, side="right")) - 1] += 1
        names = (kind, str(event["from_name"]), str(event["to_name"]))
        pair = self._pairs.setdefault(
            names, dict(zip(("kind", "from", "to"), names, strict=True)) | {"events": 0, "area_px": 0}
        )
        pair["events"] += 1
        pair["area_px"] += area

    def changes(self) -> dict[str, list[Row]]:
        """Events by kind, with a histogram of their areas over :data:`AREA_EDGES_PX`; and by class before and after."""
        return {
            "kinds": [self._kinds[kind] for kind in sorted(self._kinds)],
            "pairs": [self._pairs[names] for names in sorted(self._pairs)],
        }

    def figures(self) -> dict[str, str]:
        """Label → value, for people."""
        events = ", ".join(f"{row['events']:,} {kind}" for kind, row in sorted(self._kinds.items())) or "none"
        share = self._share_sum / self._shares if self._shares else 0.0
        figures = {
            "samples": f"{sum(self.samples.values()):,}",
            "samples without change": f"{self._negatives:,}",
            "places (`group`)": f"{len(self._groups):,}",
            "tile size": _range([f"{width} × {height} px" for height, width in sorted(self._sizes)]),
            "events": events,
            "mean changed share of a step": f"{share:.2%}",
        }
        if self._gsd_m:
            figures["ground sampling distance"] = f"{_range([f'{gsd:g}' for gsd in sorted(self._gsd_m)])} m"
        return figures


def _range(values: Sequence[str]) -> str:
    return " to ".join(dict.fromkeys((values[0], values[-1])))


def describe(
    out: Path,
    *,
    licence: str | None = None,
    repo_id: str | None = None,
    layout: str | None = None,
    splits: Mapping[str, int] | None = None,
    config_name: str = "default",
    data_dir: str = "data",
    info: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """Collect what the card of a finished dataset tells.

    Args:
        out: The dataset folder, in either layout.
        licence: What it is published under; None computes it from source and model.
        repo_id: Where it lies on the Hub.
        layout: Layout the card is for; that of the folder if not given.
        splits: Split → samples, where they are not those of the rows.
        config_name: Name of its configuration on the Hub.
        data_dir: Folder of its Parquet shards.
        info: ``dataset_info`` of shards that lie elsewhere, see :func:`changen_cli.writers.card_front.dataset_info`;
            that of the folder's own shards if not given.

    Returns:
        The facts :func:`changen_cli.writers.card.render_card` takes.

    Raises:
        UsageError: There is no dataset, its run has not ended, or the Hub knows no such licence.
        OutputError: A file of the dataset cannot be read.
    """
    master, manifest = open_master(out), read_manifest(out)
    try:
        facts = describe_master(master, manifest, dataset_licence(manifest, licence))
    except (KeyError, TypeError, ValueError, AttributeError, StopIteration) as error:
        reason = f"{type(error).__name__}: {error}"
        raise OutputError(f"{out} cannot be described, {reason}", "Run changen validate on the dataset") from None
    facts |= {"layout": layout or master.layout, "config_name": config_name, "data_dir": data_dir}
    if repo_id:
        facts |= {"repo_id": repo_id, "name": repo_id.rpartition("/")[2]}
    if splits is not None:
        facts["splits"] = dict(splits)
    if info is not None:
        facts["dataset_info"] = dict(info)
    elif facts["layout"] != master.layout:
        facts.pop("dataset_info", None)
    if facts["layout"] == "parquet":
        facts["columns"] = _parquet_columns(facts.get("dataset_info")) or facts["columns"]
    return facts


def describe_master(master: Master, manifest: Manifest, licence: Licence) -> dict[str, Any]:
    """Collect what the card of an opened dataset tells; see :func:`describe`."""
    tally = Tally()
    for row, events in master.logs():
        tally.add(row, events)
    first = next(master.rows())
    source, section, model = manifest.source, manifest.recipe["events"], manifest.model
    labels = str(source.get("labels", ""))
    facts: dict[str, Any] = {
        "name": master.name,
        "layout": master.layout,
        "splits": dict(sorted(tally.samples.items())),
        "dates": int(first["dates"]),
        "calendar": section.get("dates") or (),
        "classes": list(master.schema.names),
        "colors": ["#" + bytes(color).hex() for color in master.schema.colors],
        "columns": _folder_columns(first) if master.layout == "folder" else [],
        "license": licence.identifier,
        "license_reason": licence.reason,
        "license_known": licence.known,
        "event_kinds": source["event_kinds"],
        "proposals": labels if labels.startswith("class-agnostic") else "",
        "damage": source.get("damage", {}).get("note", ""),
        "step_count": section["steps"],
        "seed": manifest.recipe["seed"],
        "images": manifest.images,
        "unchanged": _unchanged(manifest),
        "gate": _gate(manifest),
        "model": model.id if model else "none: real pixels only" if manifest.images else "",
        "model_license": model.license if model else "",
        "model_sha256": model.sha256 if model else "",
        "version": manifest.versions["changen"],
        "versions": manifest.versions,
        "recipe": recipe_text(manifest.recipe),
        "georeferenced": any(record.get("crs") for record in manifest.scenes),
        "sources": _origins(manifest),
        "figures": tally.figures(),
        "changes": tally.changes(),
        "evaluation": card_figures(read_evaluation(master.root, manifest.checksums)),
        "preview": "preview.png" if (master.root / "preview.png").is_file() else "",
    }
    if master.layout == "parquet":
        shards: dict[str, list[Path]] = {}
        for table in master.tables:
            shards.setdefault(table.name.split("-")[0], []).append(table)
        facts["dataset_info"] = dataset_info(shards)
        facts["columns"] = _parquet_columns(facts["dataset_info"])
    return facts


def _unchanged(manifest: Manifest) -> str:
    if not manifest.images:
        return ""
    return f"{nuisance_name(manifest.recipe)}: {manifest.unchanged_pixels}"


def _gate(manifest: Manifest) -> str:
    """What the quality gate did, in one line; empty where nobody looked."""
    if not manifest.images or not manifest.recipe.get("gate", {}).get("enabled"):
        return ""
    dropped = rejected_line(noted_counts(manifest.statistics), manifest.counts.get("samples", 0))
    attempts = sum(noted_counts(manifest.statistics, "rejected_attempts").values())
    again = f"{attempts} attempts were rejected" if attempts else "nothing was rejected"
    return f"on; {again}{f'; {dropped}' if dropped else ''}"


def recipe_text(recipe: Mapping[str, Any]) -> str:
    """The recipe as YAML, without what decides no pixel, and without where files lie on the machine it ran on."""
    import yaml

    public = json.loads(json.dumps(recipe))
    public["source"]["input"] = Path(public["source"]["input"]).resolve().name
    public["output"] = {"format": public["output"]["format"]}
    public["run"] = {key: public["run"][key] for key in ("device", "dtype")}
    for section, key in (("source", "sam_model"), ("synthesis", "model"), ("synthesis", "vae")):
        value = public[section].get(key)
        if value and (value.startswith((".", "~")) or Path(value).is_absolute() or Path(value).exists()):
            public[section][key] = Path(value).name
    return str(yaml.safe_dump(public, sort_keys=False, allow_unicode=True, width=100))


def _origins(manifest: Manifest) -> list[dict[str, str]]:
    """Everything the dataset is made from, with licence and credit."""
    source = manifest.source
    name = source.get("name") or Path(manifest.recipe["source"]["input"]).name
    rows = [
        {
            "name": f"source: {name}",
            "license": ", ".join(source.get("license") or ()),
            "attribution": source.get("attribution", ""),
        }
    ]
    if manifest.model:
        rows.append({"name": f"model: {manifest.model.id}", "license": manifest.model.license})
    if source.get("proposals_model"):
        proposer = source["proposals_model"]
        rows.append({"name": f"model of the proposals: {proposer['id']}", "license": proposer.get("license", "")})
    return rows


def _folder_columns(row: Row) -> list[tuple[str, str]]:
    """Columns as ``datasets`` shows them: files are images, lists of files lists of images."""
    columns = []
    for key, value in row.items():
        if key.endswith(_FILE_KEYS):
            many = key.endswith(_FILE_KEYS[1])
            columns.append((key.removesuffix(_FILE_KEYS[many]), "list of images" if many else "image"))
        else:
            columns.append((key, _kind(value)))
    return columns


def _kind(value: Any) -> str:
    if isinstance(value, list):
        return f"list of {_kind(value[0])}" if value else "list"
    if value is None:
        return "null"
    return {bool: "bool", int: "int64", float: "float64", str: "string", dict: "record"}.get(type(value), "")


def _parquet_columns(info: Mapping[str, Any] | None) -> list[tuple[str, str]]:
    """Columns as ``dataset_info`` names them."""
    columns = []
    for feature in (info or {}).get("features", ()):
        inner = feature.get("list") or feature.get("sequence")
        kind = feature.get("dtype") or ("list of " + (inner if isinstance(inner, str) else "records"))
        columns.append((feature["name"], str(kind)))
    return columns
