"""How well a pair gives its change away without being understood: |A-B| and other cues against the mask, and the dates.

    python benchmarks/shortcuts.py OUT [--nuisance none,mild,realistic,hard] [--draws 2]

OUT is a dataset made with ``--nuisance none``; its dates are acquired here, so that all strengths see the same change.
A cue is an image; its ROC AUC against the change mask is the chance that a changed pixel has more of it than an
unchanged one: 0.5 tells nothing, 1 everything. Real pairs: |A-B| 0.47 to 0.70.
"""

from __future__ import annotations

import argparse
import json
import math
from collections import defaultdict
from pathlib import Path

import numpy as np
from PIL import Image
from scipy import ndimage

from changen_cli.core.nuisance import load_nuisance
from changen_cli.core.seeding import derive_rng
from changen_cli.core.types import BoolArray, UInt8Array
from changen_cli.synthesis.nuisance import acquire, draw_acquisition, lean_offsets
from changen_cli.synthesis.nuisance.measure import noise_level

SMOOTHED_PX, WINDOW_PX, SPARSE = 2.0, 7, 5


def auc(cue: np.ndarray, changed: BoolArray) -> float:
    """Area under the ROC curve, from ranks."""
    ranks = np.argsort(np.argsort(cue, kind="stable"), kind="stable")
    ones = int(changed.sum())
    return float((ranks[changed].sum() - ones * (ones - 1) / 2) / (ones * (changed.size - ones)))


def look(image: UInt8Array) -> dict[str, np.ndarray]:
    """Grey values, and how much of contrast and of fine detail is around every pixel."""
    grey = image.astype(np.float32).mean(-1)
    mean = ndimage.uniform_filter(grey, WINDOW_PX)
    contrast = np.sqrt(np.maximum(ndimage.uniform_filter(grey * grey, WINDOW_PX) - mean * mean, 0))
    detail = ndimage.uniform_filter(np.abs(grey - ndimage.uniform_filter(grey, 3)), WINDOW_PX)
    return {"grey": grey, "contrast": contrast, "detail": detail}


def blockiness(grey: np.ndarray) -> float:
    """Steps across the lines of JPEG's grid over steps elsewhere."""
    steps = np.abs(np.diff(grey, axis=1)).mean(axis=0)
    on = np.arange(steps.size) % 8 == 7
    return float(steps[on].mean() / max(float(steps[~on].mean()), 1e-6))


def measure(pair: list[UInt8Array], changed: BoolArray) -> dict[str, float]:
    """AUC of every cue, and every figure of the second date over that of the first, as a logarithm."""
    first, second = (look(image) for image in pair)
    difference = np.abs(pair[0].astype(np.float32) - pair[1]).mean(-1)
    cues = {"|A-B|": ndimage.gaussian_filter(difference, SMOOTHED_PX)}
    cues |= {key: np.abs(second[key] - first[key]) for key in ("contrast", "detail")}
    truth = changed.ravel()[::SPARSE]
    figures = {key: auc(cue.ravel()[::SPARSE], truth) for key, cue in cues.items()}
    summary = [
        {"contrast": date["grey"].std(), "detail": date["detail"].mean(), "noise": noise_level(date["grey"]) + 0.05,
         "jpeg": blockiness(date["grey"])}
        for date in (first, second)
    ]  # fmt: skip
    return figures | {f"t2/t1 {key}": math.log(summary[1][key] / summary[0][key]) for key in summary[0]}


def main() -> None:
    """Print one line per strength."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path, nargs="?", default=None)
    parser.add_argument("--nuisance", default="none,mild,realistic,hard")
    parser.add_argument("--draws", type=int, default=2)
    given = parser.parse_args()
    if given.out is None:
        print("shortcuts: give a dataset made with --nuisance none")
        return
    rows = [json.loads(line) for line in (given.out / "train/metadata.jsonl").open()]
    for name in given.nuisance.split(","):
        table, found = load_nuisance(name), defaultdict(list)
        for row in rows:
            folder = given.out / "train"
            changed = np.asarray(Image.open(folder / row["change_mask_file_name"])) > 0
            if not changed.any():
                continue
            dates = []
            for t in ("t1", "t2"):
                image = np.ascontiguousarray(np.asarray(Image.open(folder / row[f"{t}_image_file_name"]))[..., :3])
                dates.append((image, np.asarray(Image.open(folder / row[f"{t}_instances_file_name"])).astype(np.int32)))
            for draw in range(given.draws):
                # Every other draw is the one before with the dates exchanged: chance favours neither.
                rng = derive_rng(0, row["image_name"], draw // 2, "heights")
                heights_m = 5 * np.exp(0.35 * rng.standard_normal(int(max(date[1].max() for date in dates)) + 1))
                pair = []
                for t, (image, numbers) in enumerate(dates):
                    rng = derive_rng(0, row["image_name"], draw // 2, (t + draw) % 2)
                    one = draw_acquisition(table, changed.shape, row["gsd_m"], rng)
                    pair.append(acquire(image, one, lean_offsets(numbers, heights_m, one), numbers > 0))
                for key, value in measure(pair, changed).items():
                    found[key].append(value)
        told = []
        for key, values in found.items():
            mean, error = float(np.mean(values)), float(np.std(values) / math.sqrt(len(values)))
            told.append(f"{key} {mean:.2f}" if "/" not in key else f"{key} {math.exp(mean) - 1:+.1%} (±{error:.1%})")
        print(f"{given.out.name:>12} {name:>10}, {len(found['|A-B|'])} pairs: " + ", ".join(told), flush=True)


if __name__ == "__main__":
    main()
