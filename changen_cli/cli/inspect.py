"""``changen info`` and ``changen sample``: look at a dataset, unpack the bundled sample."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from changen_cli.cli.common import result, result_json, say


def info(
    output: Annotated[Path, typer.Argument(help="A dataset folder made by changen.")],
    as_json: Annotated[bool, typer.Option("--json", help="Print as one JSON object.")] = False,
) -> None:
    """Say what a dataset holds and how it was made, from its manifest."""
    from changen_cli.core.manifest import read_manifest
    from changen_cli.core.nuisance import nuisance_name

    manifest = read_manifest(output)
    if as_json:
        result_json(manifest.model_dump(mode="json"))
        return
    recipe, counts, statistics = manifest.recipe, manifest.counts, manifest.statistics
    events = ", ".join(f"{count} {kind}" for kind, count in statistics.get("events", {}).items()) or "none"
    rows = {
        "status": manifest.status,
        "samples": f"{counts.get('samples', 0)}, each of {recipe['events']['steps'] + 1} dates"
        + (f": {', '.join(recipe['events']['dates'])}" if recipe["events"].get("dates") else ""),
        "scenes": f"{counts.get('scenes', 0)} used, {counts.get('skipped', 0)} skipped, "
        f"{counts.get('failed', 0)} of them broken",
        "source": manifest.source["description"],
        "classes": ", ".join(f"{index} {name}" for index, name in enumerate(manifest.source["classes"])),
        "events": events,
        "changed": f"{statistics.get('changed_share_mean', 0):.2%} of the pixels per step",
        "unchanged": f"{nuisance_name(recipe)}: {manifest.unchanged_pixels}",
        "model": f"{manifest.model.id} ({manifest.model.license or 'no licence stated'})" if manifest.model else "none",
    }
    if not manifest.images:
        rows |= {"images": "none, only masks"}
        del rows["unchanged"], rows["model"]
    rows |= {
        "seed": str(recipe["seed"]),
        "fingerprint": manifest.fingerprint,
        "made with": ", ".join(f"{name} {version}" for name, version in manifest.versions.items()),
    }
    for name, value in rows.items():
        result(f"{name:<12} {value}")


def sample(
    folder: Annotated[Path, typer.Argument(help="Where to put it; must not exist yet.")] = Path("changen-sample"),
) -> None:
    """Unpack the bundled sample: a few real scenes in xBD layout, to try things on."""
    from changen_cli.workflows.setup import unpack_sample

    images = unpack_sample(folder)
    say(f"{images} scenes; credits in {folder / 'CREDITS.md'}")
    say(f"Try: changen generate --input {folder} --steps 3 --res 1024")
    result(str(folder))
