"""How many buildings the region proposals for unlabelled images find, against masks they never saw.

    python benchmarks/proposals.py FOLDER:class,...  [FOLDER ...] [--every N] [--gsd METRES] [--fit]

A building is a connected component of the building class of at least 64 px. It is found when a proposal covers it with
an intersection over union of 0.5. ``ceiling`` is the same for all regions of all scales: what a perfect choice finds.
``--fit`` fits the weights of the choice to the first folder and prints them; other folders are then unseen. ``--gsd``
is the ground sampling distance of scenes that do not tell theirs. Sizes are quartiles, in metres where that is known.
"""

from __future__ import annotations

import argparse
import time

import numpy as np
from folders import open_folder
from scipy.optimize import minimize

from changen_cli.core.proposals import SMALLEST_PX
from changen_cli.sources import pseudo_masks
from changen_cli.sources.merge_tree import build_tree
from changen_cli.workflows.setup import SAMPLE

FOUND = 0.5


def overlaps(regions, buildings):
    """Intersection over union of every region (rows) with every building (columns), both numbered from 1."""
    shape = regions.max() + 1, buildings.max() + 1
    pixels = np.bincount((regions * shape[1] + buildings).ravel(), minlength=shape[0] * shape[1]).reshape(shape)
    return iou(pixels, pixels.sum(axis=0))[1:, 1:]


def iou(pixels, of_buildings):
    """From pixels in common to intersection over union; small buildings do not count."""
    share = pixels / np.maximum(pixels.sum(axis=1, keepdims=True) + of_buildings - pixels, 1)
    return share[:, (of_buildings >= SMALLEST_PX) | (np.arange(len(of_buildings)) == 0)]


def tree_overlaps(tree, buildings):
    """The same for all regions of a tree; no background column."""
    count, width = len(tree.area_px) - len(tree.parts), buildings.max() + 1
    leaves = np.bincount((tree.leaves * width + buildings).ravel(), minlength=count * width).reshape(count, width)
    pixels = np.concatenate([leaves, np.zeros((len(tree.parts), width), leaves.dtype)])
    for region, (first, second) in enumerate(tree.parts, start=count):
        pixels[region] = pixels[first] + pixels[second]
    return iou(pixels, leaves.sum(axis=0))[:, 1:]


def fit(scenes):
    """Weights of a logistic model of "this region is a building"."""
    rows, hits = [], []
    for scene in scenes:
        tree = build_tree(scene.image)
        usable = pseudo_masks.eligible(tree)  # in pixels: the weights are to fit images of unknown resolution
        rows.append(pseudo_masks.features(tree)[usable])
        hits.append(tree_overlaps(tree, scene.instances).max(axis=1, initial=0)[usable] >= FOUND)
    x, y = np.concatenate(rows), np.concatenate(hits).astype(float)
    mean, scale = x.mean(axis=0), x.std(axis=0)  # features of one size, or the search stops far from the best
    mean[0], scale[0] = 0, 1
    x = (x - mean) / scale

    def loss(w):
        logits = x @ w
        return (np.logaddexp(0, logits) - y * logits).mean(), x.T @ (1 / (1 + np.exp(-logits)) - y) / len(y)

    weights = minimize(
        loss, np.zeros(x.shape[1]), jac=True, method="L-BFGS-B", options={"maxiter": 2000, "ftol": 1e-12}
    ).x
    weights /= scale
    weights[0] -= weights @ mean
    return tuple(float(f"{weight:.3g}") for weight in weights)


def sizes(areas, gsd_m):
    """Quartiles of areas in pixels: m² where the ground sampling distance is known."""
    quartiles = np.percentile(areas, (25, 50, 75)) * (gsd_m or 1) ** 2
    return " ".join(f"{area:.0f}" for area in quartiles) + (" m²" if gsd_m else " px")


def measure(name, scenes, gsd_m):
    """One row of the table."""
    found = within = megapixels = seconds = 0.0
    areas, built = [], []
    for scene in scenes:
        started = time.process_time()
        regions = pseudo_masks.propose_regions(scene.image, gsd_m)
        seconds += time.process_time() - started
        megapixels += regions.size / 2**20
        best = overlaps(regions, scene.instances).max(axis=0, initial=0)
        found += (best >= FOUND).sum()
        within += (tree_overlaps(build_tree(scene.image), scene.instances).max(axis=0, initial=0) >= FOUND).sum()
        areas += np.bincount(regions.ravel())[1:].tolist()
        built += [area for area in np.bincount(scene.instances.ravel())[1:].tolist() if area >= SMALLEST_PX]
    covered = sum(areas) / (megapixels * 2**20)
    return (
        f"| {name} | {f'{gsd_m:.2f}' if gsd_m else '?'} | {len(scenes)} | {len(built)} "
        f"| {found / len(built):.2f} | {within / len(built):.2f} "
        f"| {len(areas) / len(scenes):.0f} | {covered:.0%} | {sizes(areas, gsd_m)} | {sizes(built, gsd_m)} "
        f"| {seconds / megapixels:.2f} |"
    )


def main() -> None:
    """Fit if asked, then print one row per folder."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folders", nargs="*", default=[str(SAMPLE)])
    parser.add_argument("--every", type=int, default=1, help="use every n-th tile only")
    parser.add_argument("--gsd", type=float, help="metres per pixel of scenes that do not tell")
    parser.add_argument("--fit", action="store_true")
    args = parser.parse_args()
    for number, text in enumerate(args.folders):
        scenes = open_folder(text).scenes[:: args.every]
        if args.fit and not number:
            pseudo_masks.WEIGHTS = fit(scenes)
            print(f"weights {pseudo_masks.WEIGHTS}\n")
        if not number:
            print(
                "| set | m per px | tiles | buildings | recall@0.5 | ceiling | regions per tile | covered "
                "| region sizes | building sizes | s per 1024² |\n"
                "| --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: |"
            )
        name = text.partition(":")[0].rstrip("/").rpartition("/")[2]
        print(measure(name, scenes, scenes[0].gsd_m or args.gsd), flush=True)


if __name__ == "__main__":
    main()
