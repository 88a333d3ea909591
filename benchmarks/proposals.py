"""How many buildings the region proposals for unlabelled images find, against masks they never saw.

    python benchmarks/proposals.py FOLDER:class,...  [FOLDER ...] [--every N] [--fit]

A building is a connected component of the building class of at least 64 px. It is found when a proposal covers it with
an intersection over union of 0.5. ``ceiling`` is the same for all regions of all scales: what a perfect choice finds.
``--fit`` fits the weights of the choice to the first folder and prints them; other folders are then unseen.
"""

from __future__ import annotations

import argparse
import time

import numpy as np
from folders import open_folder
from scipy.optimize import minimize

from changen_cli.sources import pseudo_masks
from changen_cli.sources.merge_tree import build_tree
from changen_cli.workflows.setup import SAMPLE

FOUND, SMALLEST_PX = 0.5, 64


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
        usable = pseudo_masks.eligible(tree)
        rows.append(pseudo_masks.features(tree)[usable])
        hits.append(tree_overlaps(tree, scene.instances).max(axis=1, initial=0)[usable] >= FOUND)
    x, y = np.concatenate(rows), np.concatenate(hits).astype(float)
    scale = np.abs(x).max(axis=0)
    x = x / scale

    def loss(w):
        logits = x @ w
        return (np.logaddexp(0, logits) - y * logits).mean(), x.T @ (1 / (1 + np.exp(-logits)) - y) / len(y)

    weights = minimize(
        loss, np.zeros(x.shape[1]), jac=True, method="L-BFGS-B", options={"maxiter": 2000, "ftol": 1e-12}
    ).x
    return tuple(float(f"{weight:.3g}") for weight in weights / scale)


def main() -> None:
    """Fit if asked, then print one row per folder."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folders", nargs="*", default=[str(SAMPLE)])
    parser.add_argument("--every", type=int, default=1, help="use every n-th tile only")
    parser.add_argument("--fit", action="store_true")
    args = parser.parse_args()
    for number, text in enumerate(args.folders):
        scenes = open_folder(text).scenes[:: args.every]
        if args.fit and not number:
            pseudo_masks.WEIGHTS = fit(scenes)
            print(f"weights {pseudo_masks.WEIGHTS}\n")
        if not number:
            print(
                "| folder | tiles | buildings | recall@0.5 | ceiling | regions per tile | median region | s per 1024² |"
            )
            print("| --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: |")
        found = within = buildings = megapixels = seconds = 0.0
        areas, counts = [], []
        for scene in scenes:
            started = time.process_time()
            regions = pseudo_masks.propose_regions(scene.image)
            seconds += time.process_time() - started
            megapixels += regions.size / 2**20
            best = overlaps(regions, scene.instances)
            buildings += best.shape[1]
            found += (best.max(axis=0, initial=0) >= FOUND).sum()
            within += (tree_overlaps(build_tree(scene.image), scene.instances).max(axis=0, initial=0) >= FOUND).sum()
            areas += np.bincount(regions.ravel())[1:].tolist()
            counts.append(regions.max())
        print(
            f"| {text.partition(':')[0].rstrip('/').rpartition('/')[2]} | {len(scenes)} | {buildings:.0f} "
            f"| {found / buildings:.2f} | {within / buildings:.2f} | {np.mean(counts):.0f} | {np.median(areas):.0f} px "
            f"| {seconds / megapixels:.2f} |"
        )


if __name__ == "__main__":
    main()
