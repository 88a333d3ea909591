"""Which start looks most like real ground and real roofs? Strength and steps compared on folders of your choice.

Usage: python benchmarks/strength.py FOLDER[:class,class,...] [FOLDER ...] [--model M] [--scenes 4] [--picture grid.png]

For every setting the first step of the same simulated samples is drawn. Texture is compared on 24 px patches: log
energies of a Haar decomposition at three scales in luma and chroma, and mean colours. The distance is the Fréchet
distance (Gaussian) between patches of what was drawn and real patches of the same class in the same folders; "real"
splits the real ones in two halves and tells how small the figure can get. Grain is the finest chroma energy and
sharpness the finest luma energy inside the changed area, relative to real patches of that class; seam is the gradient
along the rim of the redrawn area relative to the same pixels before: 1 is right for all three.
"""

from __future__ import annotations

import argparse
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
from PIL import Image
from rich.console import Console
from rich.table import Table
from scipy import linalg, ndimage

from changen_cli.core.recipe import build_recipe
from changen_cli.core.types import Scene
from changen_cli.synthesis.synthesiser import Synthesiser
from changen_cli.workflows.plans import Plan, open_labelled_source, simulate
from changen_cli.workflows.setup import build_library, choose_compute, load_pipeline, synthesis_settings

SIZE = 24
TO_YCC = np.array([[0.299, 0.587, 0.114], [-0.169, -0.331, 0.5], [0.5, -0.419, -0.081]])


def features(patch: np.ndarray) -> np.ndarray:
    """Haar log energies at three scales per band, finest first, then mean colours; float64 [30]."""
    plane = patch.astype(np.float64) @ TO_YCC.T
    out = []
    for _ in range(3):
        a, b, c, d = plane[::2, ::2], plane[::2, 1::2], plane[1::2, ::2], plane[1::2, 1::2]
        for band in (a - b + c - d, a + b - c - d, a - b - c + d):
            out.append(np.log(np.abs(band).mean(axis=(0, 1)) / 2 + 0.1))
        plane = (a + b + c + d) / 4
    return np.concatenate([*out, patch.mean(axis=(0, 1)) / 64])


def patches(image: np.ndarray, area: np.ndarray) -> list[np.ndarray]:
    """Features of the patches that lie in ``area`` for the most part."""
    found = []
    for row in range(0, image.shape[0] - SIZE + 1, SIZE // 2):
        for col in range(0, image.shape[1] - SIZE + 1, SIZE // 2):
            if area[row : row + SIZE, col : col + SIZE].mean() > 0.85:
                found.append(features(image[row : row + SIZE, col : col + SIZE]))
    return found


def seam(before: np.ndarray, after: np.ndarray, changed: np.ndarray) -> float:
    """Gradient along the rim of what was redrawn, after over before; 1 where no border shows."""
    area = ndimage.binary_dilation(changed, iterations=8) & (before != after).any(axis=-1)
    rim = ndimage.binary_dilation(area) & ~ndimage.binary_erosion(area, iterations=2) & ~changed

    def steepness(image: np.ndarray) -> float:
        luma = image @ TO_YCC[0]
        return float(np.hypot(ndimage.sobel(luma, 0), ndimage.sobel(luma, 1))[rim].mean())

    return steepness(after) / max(steepness(before), 1e-6)


def frechet(a: np.ndarray, b: np.ndarray) -> float:
    """Fréchet distance of two sets of features, as Gaussians."""
    cov_a, cov_b = np.cov(a.T), np.cov(b.T)
    root = linalg.sqrtm(cov_a @ cov_b).real
    return float(((a.mean(0) - b.mean(0)) ** 2).sum() + np.trace(cov_a + cov_b - 2 * root))


def date_job(plan: Plan):
    """The first step of a sample."""
    from changen_cli.synthesis.synthesiser import DateJob

    series = plan.series
    events = [event for event in series.events if event.time_index == 0]
    names = (plan.scene.id, 0, 1)
    return DateJob(plan.scene.image, series.masks[:2], series.instances[0], events, plan.scene.id, 0, names)


def picture(rows: list[list[np.ndarray]], path: Path, cell: int = 180) -> None:
    """Write crops as a grid, one event per row."""
    sheet = Image.new("RGB", ((cell + 4) * len(rows[0]), (cell + 4) * len(rows)), "white")
    for i, row in enumerate(rows):
        for j, crop in enumerate(row):
            tile = Image.fromarray(crop).resize((cell, cell), Image.Resampling.LANCZOS)
            sheet.paste(tile, (j * (cell + 4), i * (cell + 4)))
    sheet.save(path)


def crops(plan: Plan, drawn: list[np.ndarray]) -> list[list[np.ndarray]]:
    """Before, mask and every drawn version around the largest creation and the largest removal."""
    rows, series, image = [], plan.series, plan.scene.image
    for kind, colour in (("create", (0, 220, 90)), ("remove", (230, 40, 90))):
        events = [event for event in series.events if event.kind == kind and event.time_index == 0]
        if not events:
            continue
        row0, col0, row1, col1 = max(events, key=lambda event: event.area_px).bbox
        side = min(max(96, int(max(row1 - row0, col1 - col0) * 1.5)), *image.shape[:2])
        top = int(np.clip((row0 + row1 - side) // 2, 0, image.shape[0] - side))
        left = int(np.clip((col0 + col1 - side) // 2, 0, image.shape[1] - side))
        mask = np.zeros(image.shape, dtype=np.uint8)
        mask[series.instances[1] > 0] = 90
        mask[series.masks[0] != series.masks[1]] = colour
        where = slice(top, top + side), slice(left, left + side)
        rows.append([shown[where] for shown in (image, mask, *drawn)])
    return rows


def main() -> None:
    """Draw every setting and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folders", nargs="+")
    parser.add_argument("--model", default="changen-mini")
    parser.add_argument("--scenes", type=int, default=4)
    parser.add_argument("--settings", default="0:1,0.1:10,0.2:10,0.3:10,0.3:20,0.4:10,0.6:10,noise:10")
    parser.add_argument("--dtype", default="float32")
    parser.add_argument("--picture", type=Path)
    options = parser.parse_args()
    settings = [(text.split(":")[0], int(text.split(":")[1])) for text in options.settings.split(",")]
    real: dict[str, list] = {"create": [], "remove": []}
    made: dict[tuple, dict[str, list]] = {setting: {"create": [], "remove": []} for setting in settings}
    seconds = dict.fromkeys(settings, 0.0)
    seams: dict[tuple, list[float]] = {setting: [] for setting in settings}
    rows, dates = [], 0
    for text in options.folders:
        folder, _, classes = text.partition(":")
        source_section = {"input": folder, "classes": classes.split(",") if classes else None}
        recipe = build_recipe({"source": source_section, "synthesis": {"model": options.model}})
        source = open_labelled_source(recipe)
        library = build_library(source)
        compute = choose_compute("cpu", options.dtype, 1)
        pipeline, _ = load_pipeline(recipe, compute)
        synthesiser = Synthesiser(pipeline, synthesis_settings(recipe), source.schema, library)
        base = synthesiser.settings
        for scene in [item for item in source if isinstance(item, Scene)][: options.scenes]:
            plan = simulate(scene, source.schema, recipe, 0, library)
            before, after = plan.series.masks[:2]
            building = after == source.schema.building_id
            real["create"] += patches(scene.image, before == source.schema.building_id)
            real["remove"] += patches(scene.image, (before != source.schema.building_id) & (before != 255))
            drawn = []
            for strength, steps in settings:
                noise = strength == "noise"
                synthesiser.settings = replace(
                    base,
                    start="noise" if noise else "exemplar",
                    strength=1.0 if noise else float(strength),
                    inference_steps=steps,
                )
                started = time.perf_counter()
                (image,) = synthesiser.next_dates([date_job(plan)])
                seconds[strength, steps] += time.perf_counter() - started
                drawn.append(image)
                changed = before != after
                seams[strength, steps].append(seam(scene.image, image, changed))
                made[strength, steps]["create"] += patches(image, changed & building)
                made[strength, steps]["remove"] += patches(image, changed & ~building)
            dates += 1
            if options.picture and len(rows) < 12:
                rows += crops(plan, drawn)
    table = Table(title=f"{dates} dates, {options.dtype}, 1 thread; settings as strength:steps of the full schedule")
    for column in (
        "start",
        "roofs FD",
        "ground FD",
        "roof grain",
        "ground grain",
        "roof sharp",
        "ground sharp",
        "seam",
        "s/date",
    ):
        table.add_column(column, justify="right")
    reals = {kind: np.stack(values) for kind, values in real.items()}
    halves = {kind: frechet(values[::2], values[1::2]) for kind, values in reals.items()}
    table.add_row(
        "real", f"{halves['create']:.2f}", f"{halves['remove']:.2f}", "1.00", "1.00", "1.00", "1.00", "1.00", ""
    )
    for setting in settings:
        values = {kind: np.stack(found) for kind, found in made[setting].items()}

        def ratio(kind: str, index: int, values: dict = values) -> str:
            return f"{np.exp(values[kind][:, index].mean() - reals[kind][:, index].mean()):.2f}"

        table.add_row(
            f"{setting[0]}:{setting[1]}",
            f"{frechet(values['create'], reals['create']):.2f}",
            f"{frechet(values['remove'], reals['remove']):.2f}",
            ratio("create", 7), ratio("remove", 7), ratio("create", 6), ratio("remove", 6),
            f"{np.median(seams[setting]):.2f}",
            f"{seconds[setting] / dates:.1f}",
        )  # fmt: skip
    Console(width=120).print(table)
    if options.picture:
        picture(rows, options.picture)


if __name__ == "__main__":
    main()
