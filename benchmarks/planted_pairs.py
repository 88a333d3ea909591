"""Real re-acquisitions with houses planted into the later date: real pairs without labels that test detectors anyway.

Usage: python benchmarks/planted_pairs.py OUT --reacquired DIR DIR --houses IMAGES MASKS [--reduce 2]

Season, light, sensor and misregistration are real, and so are the houses; that they stand there is not. Every pair gets
two to six of them, turned, in the light of their new surroundings, with soft rims. The tree is that of LEVIR-CD.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
from PIL import Image
from scipy import ndimage

from changen_cli.core.seeding import derive_rng
from changen_cli.sources.raster import read_image, read_mask
from changen_cli.workflows.detection_data import find_unchanged

SMALLEST_PX, LARGEST_PX, MARGIN_PX = 300, 3000, 4


def houses(images: Path, masks: Path, reduce: int) -> list[tuple[np.ndarray, np.ndarray]]:
    """Pixels with a margin, float ``[h, w, 3]``, and shapes, bool ``[h, w]``, of whole houses."""
    found = []
    for path in sorted(masks.iterdir()):
        match = next(iter(images.glob(f"{path.stem}.*")), None)
        if match is None or "post" in path.stem:
            continue
        mask = read_mask(path)[0][::reduce, ::reduce] == 1
        size = mask.shape[1], mask.shape[0]
        pixels = np.asarray(Image.fromarray(read_image(match).image).resize(size, Image.Resampling.BOX))
        labels = ndimage.label(mask)[0]
        for number, box in enumerate(ndimage.find_objects(labels), start=1):
            rows, cols = (slice(max(0, edge.start - MARGIN_PX), edge.stop + MARGIN_PX) for edge in box)
            shape = labels[rows, cols] == number
            if SMALLEST_PX <= shape.sum() <= LARGEST_PX:
                found.append((pixels[rows, cols].astype(np.float32), shape))
    return found


def plant(image: np.ndarray, stock: list, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Put houses on an image; returns it and what changed, uint8 0 and 255."""
    out, change = image.astype(np.float32), np.zeros(image.shape[:2], bool)
    for _ in range(int(rng.integers(2, 7))):
        pixels, shape = stock[int(rng.integers(len(stock)))]
        turns = int(rng.integers(4))
        pixels, shape = np.rot90(pixels, turns), np.rot90(shape, turns)
        if min(np.subtract(change.shape, shape.shape)) <= 0:
            continue
        row, col = (int(rng.integers(whole - part)) for whole, part in zip(change.shape, shape.shape, strict=True))
        place = slice(row, row + shape.shape[0]), slice(col, col + shape.shape[1])
        if change[place].any():
            continue
        # A house keeps how it differs from its own ground, and takes the light of the new place.
        gain = (image[place].mean() + 1) / (pixels.mean() + 1)
        alpha = ndimage.gaussian_filter(shape.astype(np.float32), 0.7)[..., None]
        out[place] = alpha * np.clip(pixels * np.clip(gain, 0.6, 1.6), 0, 255) + (1 - alpha) * out[place]
        change[place] |= shape
    return np.rint(out).astype(np.uint8), change.astype(np.uint8) * 255


def main() -> None:
    """Write the tree."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("out", type=Path)
    parser.add_argument("--reacquired", type=Path, nargs="+", required=True)
    parser.add_argument("--houses", type=Path, nargs=2, required=True)
    parser.add_argument("--reduce", type=int, default=1, help="so many pixels of the houses become one")
    parser.add_argument("--pairs", type=int, default=120)
    given = parser.parse_args()
    stock = houses(*given.houses, given.reduce)
    for folder in ("A", "B", "label"):
        (given.out / folder).mkdir(parents=True)
    for number, (first, second) in enumerate(find_unchanged(given.reacquired, given.pairs)):
        after, change = plant(read_image(second).image, stock, derive_rng(0, "planted", number))
        for folder, pixels in (("A", read_image(first).image), ("B", after), ("label", change)):
            Image.fromarray(pixels).save(given.out / folder / f"{second.stem}.png")
    print(f"{len(stock)} houses, {number + 1} pairs in {given.out}")


if __name__ == "__main__":
    main()
