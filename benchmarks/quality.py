"""How real do drawn changes look, do they show what the mask says, is there a seam, and what does a date cost?

Usage: python benchmarks/quality.py FOLDER[:class,...][@reduce] ... [--train FOLDER[:class,...][@reduce] ...]
           [--model M ...] [--settings strength:steps,...] [--scenes N] [--variants V] [--quick]
           [--picture grid.png] [--json out.json] [--dtype bfloat16]

FOLDER holds labelled scenes of places the model was not trained on; "@2" halves their resolution. Every model draws the
first step of the same simulated samples at every setting ("0.2:20": strength 0.2, 20 steps of the whole schedule;
"noise:20": from pure noise).

FD, KD   Fréchet and kernel distance of segmenter features of 64 px windows about created (+) and removed (-) objects to
         windows about buildings and on free ground of the training folders. The row "real" has the same numbers of
         windows of the evaluation folders; the bar is twice its FD.
label    building IoU of the segmenter's map of the drawn image and the mask it was drawn for, within 8 px of changes,
         and the share of removed pixels still called building; "real": the same before the change. Bar: 0.60.
seam     area under the ROC curve of a probe that tells drawn rims from real ones of the same shape, cross-validated by
         place: around the building a creation was made from, or on free ground near a removal. Both are taken relative
         to the same shape on free ground of their own surroundings. "real": creations' sites before the change against
         other free ground, what the site alone gives away. Bar: 0.60. "ratio": the plain gradient ratio along the rim.
texture  Fréchet distance of Haar energies of 24 px patches against those of the evaluation folders. Grain and
         sharpness are ratios to those; 1 is right.

From Python, with this folder on the path: ``evaluate_denoiser(pipeline, settings, prepare(folders, train=...))``.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from folders import Folder, open_folder, place_of
from PIL import Image
from rich.console import Console
from rich.table import Table

from changen_cli.core.recipe import build_recipe
from changen_cli.core.seeding import derive_rng
from changen_cli.synthesis import measures as numbers
from changen_cli.synthesis.hub import SEGMENTER
from changen_cli.synthesis.segmenter import LandCoverSegmenter, load_segmenter
from changen_cli.synthesis.synthesiser import DateJob, Synthesiser, SynthesisSettings
from changen_cli.workflows import measures, seams
from changen_cli.workflows.plans import Plan, simulate
from changen_cli.workflows.setup import build_library, choose_compute, load_pipeline, model_path

KINDS = ("create", "remove")
TRAIN_WINDOWS = 600
TEXTURE_PATCHES = 60
CHANGE_AREA = (0.01, 0.04)
SETTINGS = "0:1,0.1:20,0.2:20,0.3:20,0.4:20"
PROBES = (("seam", "drawn", "real"), ("seam_site", "drawn", "site"), ("site", "site", "ground"))
BARS = {"fd_ratio": 2.0, "label": 0.60, "seam": 0.60}


@dataclass(eq=False)
class Bench:
    """What every model is asked to draw, and the real features it is compared with.

    Attributes:
        plans: Folders and simulated samples.
        segmenter: The judge.
        train: Features of training windows by kind, ``[N, D]``; empty without training folders.
        texture: Texture features of the evaluation folders by kind.
        real: The figures of real images.
    """

    plans: list[tuple[Folder, Plan]]
    segmenter: LandCoverSegmenter
    train: dict[str, np.ndarray]
    texture: dict[str, np.ndarray]
    real: dict[str, float]


def real_features(folders: Sequence[Folder], counts: dict, segmenter, seed: str) -> dict[str, np.ndarray]:
    """Features of real windows by kind; ``counts`` says how many of which folder and kind.

    Where it also counts by scene, ground comes from the scenes of the removals: elsewhere it is another landscape.
    """
    found: dict[str, list] = {kind: [] for kind in KINDS}
    for folder in folders:
        for kind in KINDS:
            rng = derive_rng(0, seed, folder.text, kind)
            scenes = [scene for scene in folder.scenes if counts.get((folder.text, kind, scene.id))]
            chosen = scenes if scenes and kind == "remove" else folder.scenes
            found[kind] += measures.real_windows(chosen, folder.schema, kind, counts[folder.text, kind], rng)
    return {kind: segmenter.describe(np.stack(windows)) for kind, windows in found.items() if windows}


def prepare(
    folders: Sequence[str],
    *,
    train: Sequence[str] = (),
    without: Sequence[str] = (),
    scenes: int = 12,
    variants: int = 2,
    segmenter: LandCoverSegmenter | Path | None = None,
) -> Bench:
    """Simulate what is to be drawn, and measure the real images.

    Args:
        folders: ``FOLDER[:class,...][@reduce]`` of held-out places.
        train: The same of the training data; scenes that are also in ``folders`` are left out.
        without: Further patterns of scene ids to leave out of the training folders.
        scenes: Scenes per folder at most, spread over it.
        variants: Samples per scene: creations, removals, and so on in turn.
        segmenter: The judge; the bundled one when None.

    Raises:
        ValueError: When nothing can be created or removed in these scenes.
    """
    if not isinstance(segmenter, LandCoverSegmenter):
        segmenter = load_segmenter(segmenter or model_path(SEGMENTER))
    opened = [open_folder(text) for text in folders]
    plans, counts = [], defaultdict(int)
    for folder in opened:
        folder.library = build_library(folder)
        step = max(1, len(folder.scenes) // scenes)
        for scene in folder.scenes[::step][:scenes]:
            for variant in range(variants):
                # In turns, or the more frequent kind would crowd out the other where few objects stand.
                kinds = {"kinds": (KINDS[variant % 2],), "change_area": CHANGE_AREA}
                recipe = folder.recipe.model_copy(update={"events": folder.recipe.events.model_copy(update=kinds)})
                plan = simulate(scene, folder.schema, recipe, variant, folder.library)
                if not first_events(plan):
                    continue
                plans.append((folder, plan))
                for event in first_events(plan):
                    counts[folder.text, event.kind] += 1
                    counts[folder.text, event.kind, scene.id] += 1
    for kind in KINDS:
        if not any(key[1] == kind for key in counts):
            raise ValueError(f"nothing to {kind} in these scenes; give more of them, or other folders")
    texture: dict[str, list] = {kind: [] for kind in KINDS}
    for folder, plan in plans:
        # Of every sample as many, and ground of scenes with removals only: a desert is not what a house gives way to.
        rng = derive_rng(0, plan.scene.id, plan.variant, "texture")
        kind, mask = first_events(plan)[0].kind, plan.series.masks[0]
        ids = folder.schema.building_ids if kind == "create" else folder.schema.ground_ids
        found = numbers.texture_patches(plan.scene.image, np.isin(mask, ids))
        texture[kind] += [found[i] for i in rng.permutation(len(found))[:TEXTURE_PATCHES]]
    textures = {kind: np.stack(found) for kind, found in texture.items()}
    held = {scene.id for folder in opened for scene in folder.scenes}
    sets = [open_folder(text, without=[*held, *without]) for text in train]
    even = defaultdict(lambda: TRAIN_WINDOWS // max(1, len(sets)))
    features = real_features(sets, even, segmenter, "train") if sets else {}
    real: dict[str, float] = {"events": sum(len(first_events(plan)) for _, plan in plans), "dates": len(plans)}
    for kind in KINDS:
        halves = textures[kind][::2], textures[kind][1::2]
        real[f"texture_{kind}"] = numbers.frechet_distance(*halves)
    if features:
        # Few windows make Fréchet distances large: the same number as events, several times over.
        draws = [real_features(opened, counts, segmenter, f"real{turn}") for turn in range(5)]
        for kind in KINDS:
            real[f"fd_{kind}"] = float(np.mean([numbers.frechet_distance(d[kind], features[kind]) for d in draws]))
            real[f"kd_{kind}"] = float(np.mean([numbers.kernel_distance(d[kind], features[kind]) for d in draws]))
    agreement = measures.LabelAgreement()
    for folder, plan in plans:
        before = np.isin(plan.series.masks[0], folder.schema.building_ids)
        said = measures.building_map(segmenter, plan.scene.image)
        agreement.add(said, before, *changed_areas(folder, plan))
    real |= agreement.figures()
    return Bench(plans, segmenter, features, textures, real)


def first_events(plan: Plan) -> list:
    """The events of the first step."""
    return [event for event in plan.series.events if event.time_index == 0]


def changed_areas(folder: Folder, plan: Plan) -> tuple[np.ndarray, np.ndarray]:
    """Pixels that became building, and pixels that ceased to be one, in the first step."""
    before, after = np.isin(plan.series.masks[:2], folder.schema.building_ids)
    return after & ~before, before & ~after


def date_job(plan: Plan) -> DateJob:
    """The first step of a sample."""
    series = plan.series
    return DateJob(
        plan.scene.image, series.masks[:2], series.instances[:2], first_events(plan), plan.scene.id, 0,
        (plan.scene.id, plan.variant, 1),
    )  # fmt: skip


def parse_settings(text: str) -> dict[str, SynthesisSettings]:
    """``"0.2:20,noise:10"`` as settings by their name."""
    found = {}
    for name in text.split(","):
        strength, _, steps = name.partition(":")
        noise = strength == "noise"
        found[name] = SynthesisSettings(
            start="noise" if noise else "exemplar",
            strength=1.0 if noise else float(strength),
            inference_steps=int(steps or 20),
        )
    return found


def evaluate_denoiser(pipeline, settings, bench: Bench, *, drawn=None, progress=lambda text: None) -> dict:
    """Draw everything with one denoiser at every setting, and measure it.

    Args:
        pipeline: A ``ChangenPipeline``; may be None when every strength is 0.
        settings: ``{name: SynthesisSettings}``, or a text as ``--settings`` takes it.
        bench: From :func:`prepare`; the same one serves any number of denoisers.
        drawn: When given, a dict that receives the images of every setting, for pictures.
        progress: Told what was drawn.

    Returns:
        ``{"real": figures, "settings": {name: figures}, "bars": {name: {bar: met}}}`` of plain JSON values.
    """
    settings = parse_settings(settings) if isinstance(settings, str) else settings
    rows = {}
    for name, chosen in settings.items():
        images, seconds = draw(pipeline, chosen, bench)
        rows[name] = measure(images, bench) | {"seconds_per_date": round(seconds, 2)}
        if drawn is not None:
            drawn[name] = images
        progress(f"{name}: {seconds:.1f} s per 1024² date")
    return {"real": real_row(bench, rows), "settings": rows, "bars": {name: bars(row) for name, row in rows.items()}}


def draw(pipeline, settings: SynthesisSettings, bench: Bench) -> tuple[list[np.ndarray], float]:
    """The images of all samples, and the seconds a date of 1024 x 1024 px took."""
    images, seconds = [], 0.0
    for folder, plan in bench.plans:
        synthesiser = Synthesiser(pipeline, settings, folder.schema, folder.library)
        started = time.perf_counter()
        images += synthesiser.next_dates([date_job(plan)])
        seconds += time.perf_counter() - started
    return images, seconds / sum(image.shape[0] * image.shape[1] for image in images) * 1024**2


def measure(images: Sequence[np.ndarray], bench: Bench) -> dict[str, float]:
    """All figures of the drawn images of all samples."""
    agreement, rims, ratios = measures.LabelAgreement(), [], []
    windows: dict[str, list] = {kind: [] for kind in KINDS}
    texture: dict[str, list] = {kind: [] for kind in KINDS}
    for (folder, plan), image in zip(bench.plans, images, strict=True):
        events, series, scene = first_events(plan), plan.series, plan.scene
        created, removed = changed_areas(folder, plan)
        wanted = np.isin(series.masks[1], folder.schema.building_ids)
        agreement.add(measures.building_map(bench.segmenter, image), wanted, created, removed)
        ratios.append(numbers.seam_ratio(scene.image, image, created | removed))
        texture["create"] += numbers.texture_patches(image, created)
        texture["remove"] += numbers.texture_patches(image, removed)
        for event in events:
            windows[event.kind].append(measures.event_window(image, event))
        found = seams.rim_sets(
            scene, image, series.masks[:2], series.instances[:2], events, folder.schema,
            {other.id: other for other in folder.scenes}, derive_rng(0, scene.id, plan.variant, "rims"),
        )  # fmt: skip
        rims += [(place_of(scene), rim) for rim in found]
    figures: dict[str, float] = agreement.figures() | {"seam_ratio": float(np.nanmedian(ratios))}
    for kind in KINDS:
        figures[f"rims_{kind}"] = sum(rim.kind == kind for _, rim in rims)
        for name, one, other in PROBES:
            figures[f"{name}_{kind}"] = seams.seam_probe(rims, kind, one, other)
        if len(texture[kind]) > 1:  # else no change was large enough for a patch
            values = np.stack(texture[kind])
            figures[f"texture_{kind}"] = numbers.frechet_distance(values, bench.texture[kind])
            figures[f"grain_{kind}"] = numbers.grain(values, bench.texture[kind])
            figures[f"sharpness_{kind}"] = numbers.sharpness(values, bench.texture[kind])
        if kind in bench.train:
            features = bench.segmenter.describe(np.stack(windows[kind]))
            figures[f"fd_{kind}"] = numbers.frechet_distance(features, bench.train[kind])
            figures[f"kd_{kind}"] = numbers.kernel_distance(features, bench.train[kind])
            figures[f"fd_ratio_{kind}"] = figures[f"fd_{kind}"] / bench.real[f"fd_{kind}"]
    return _plain(figures)


def bars(figures: dict) -> dict[str, bool]:
    """Which bars a setting meets."""
    met = {
        "label": figures["iou_all"] >= BARS["label"],
        "seam": max(figures["seam_create"], figures["seam_remove"]) <= BARS["seam"],
    }
    if "fd_ratio_create" in figures:
        met["fd"] = max(figures["fd_ratio_create"], figures["fd_ratio_remove"]) <= BARS["fd_ratio"]
    return met


def real_row(bench: Bench, rows: dict) -> dict[str, float]:
    """The figures of real images; for the seam what the sites give away before anything is drawn."""
    sites = {"seam_create": float(np.nanmean([row["site_create"] for row in rows.values()]))}
    ones = {f"{name}_{kind}": 1.0 for name in ("grain", "sharpness", "fd_ratio") for kind in KINDS}
    return _plain(bench.real | sites | ones)


def _plain(figures: dict) -> dict[str, float]:
    return {name: round(float(value), 4) for name, value in figures.items()}


COLUMNS = (
    ("FD+", "fd_create", ".3f"), ("FD-", "fd_remove", ".3f"), ("×real+", "fd_ratio_create", ".2f"),
    ("×real-", "fd_ratio_remove", ".2f"), ("KD+", "kd_create", ".3f"), ("KD-", "kd_remove", ".3f"),
    ("label", "iou_all", ".2f"), ("label+", "iou_create", ".2f"), ("label-", "iou_remove_ring", ".2f"),
    ("left", "still_building", ".2f"), ("seam+", "seam_create", ".2f"), ("seam-", "seam_remove", ".2f"),
    ("on site+", "seam_site_create", ".2f"), ("ratio", "seam_ratio", ".2f"), ("tex+", "texture_create", ".1f"),
    ("tex-", "texture_remove", ".1f"), ("grain+", "grain_create", ".2f"), ("grain-", "grain_remove", ".2f"),
    ("sharp+", "sharpness_create", ".2f"), ("sharp-", "sharpness_remove", ".2f"), ("s/date", "seconds_per_date", ".1f"),
)  # fmt: skip


def table(title: str, result: dict) -> Table:
    """The figures of one model, a row per setting."""
    shown = Table(title=title)
    for name in ("setting", *(column for column, _, _ in COLUMNS), "bars"):
        shown.add_column(name, justify="right", no_wrap=True)
    for name, row in ({"real": result["real"]} | result["settings"]).items():
        cells = [format(row[key], form) if key in row else "" for _, key, form in COLUMNS]
        met = result["bars"].get(name, {})
        shown.add_row(name, *cells, " ".join(bar if ok else f"[red]{bar}![/]" for bar, ok in met.items()))
    return shown


def picture(bench: Bench, drawn: dict[str, list[np.ndarray]], path: Path, *, rows: int = 16, cell: int = 160) -> None:
    """Write a grid: before, mask, then every setting; the largest creation and removal of a date per row."""
    crops = []
    step = max(1, 2 * len(bench.plans) // rows)
    for index in range(0, len(bench.plans), step):
        folder, plan = bench.plans[index]
        series, image = plan.series, plan.scene.image
        shown = np.zeros(image.shape, dtype=np.uint8)
        shown[np.isin(series.masks[1], folder.schema.building_ids)] = 90
        for area, colour in zip(changed_areas(folder, plan), ((0, 220, 90), (230, 40, 90)), strict=True):
            shown[area] = colour
        for kind in KINDS:
            events = [event for event in first_events(plan) if event.kind == kind]
            if not events:
                continue
            row0, col0, row1, col1 = max(events, key=lambda event: event.area_px).bbox
            side = min(max(96, int(max(row1 - row0, col1 - col0) * 1.5)), *image.shape[:2])
            middle = (row0 + row1) / 2, (col0 + col1) / 2
            layers = (image, shown, *(images[index] for images in drawn.values()))
            crops.append([measures.centred_window(layer, *middle, side) for layer in layers])
    sheet = Image.new("RGB", ((cell + 4) * len(crops[0]), (cell + 4) * len(crops)), "white")
    for i, row in enumerate(crops):
        for j, crop in enumerate(row):
            tile = Image.fromarray(crop).resize((cell, cell), Image.Resampling.LANCZOS)
            sheet.paste(tile, (j * (cell + 4), i * (cell + 4)))
    sheet.save(path)


def main() -> None:
    """Evaluate every model and print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folders", nargs="+")
    parser.add_argument("--train", nargs="*", default=[], help="training folders, the reference of FD and KD")
    parser.add_argument("--without", nargs="*", default=[], help="patterns of scene ids that were not trained on")
    parser.add_argument("--model", nargs="+", default=["changen-mini"])
    parser.add_argument("--settings", default=SETTINGS)
    parser.add_argument("--scenes", type=int, default=12, help="scenes per folder at most")
    parser.add_argument("--variants", type=int, default=2, help="samples per scene, creations and removals in turn")
    parser.add_argument("--quick", action="store_true", help="3 scenes per folder, 2 samples each")
    parser.add_argument("--dtype", default="float32")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--segmenter", type=Path, help="another judge than the bundled one")
    parser.add_argument("--picture", type=Path)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    compute = choose_compute(options.device, options.dtype, options.threads)
    scenes, variants = (3, 2) if options.quick else (options.scenes, options.variants)
    bench = prepare(
        options.folders, train=options.train, without=options.without, scenes=scenes, variants=variants,
        segmenter=options.segmenter,
    )  # fmt: skip
    results = {}
    for model in options.model:
        recipe = build_recipe({"source": {"input": "."}, "synthesis": {"model": model}})
        pipeline, _ = load_pipeline(recipe, compute)
        drawn: dict[str, list[np.ndarray]] = {}
        results[model] = evaluate_denoiser(
            pipeline, options.settings, bench, drawn=drawn, progress=lambda text: print(text, file=sys.stderr)
        )
        title = f"{model}: {bench.real['dates']} dates, {bench.real['events']} events, {options.dtype}"
        Console(width=220).print(table(title, results[model]))
        if options.picture:
            several = len(options.model) > 1
            name = f"{options.picture.stem}-{Path(model).stem}" if several else options.picture.stem
            picture(bench, drawn, options.picture.with_name(name + options.picture.suffix))
        if options.json:
            options.json.write_text(json.dumps(results, indent=1))


if __name__ == "__main__":
    main()
