"""Reading rules of other people's loaders, written anew from their documented behaviour: what they would train on.

Each returns, for every item, the two images ``[H, W, 3]`` and labels as the loader hands them on. Nothing here knows the
code under test.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from PIL import Image


class Item(NamedTuple):
    name: str
    images: tuple[Any, Any]
    labels: tuple[Any, ...]


def imread(path: str | Path) -> Any:
    """skimage.io.imread: the stored pixels, palettes as colours."""
    with Image.open(path) as picture:
        return np.array(picture.convert("RGB") if picture.mode == "P" else picture)


def imread_grey(path: str | Path) -> Any:
    """mmcv.imfrombytes(flag='grayscale', backend='pillow'): colours become luminance."""
    with Image.open(path) as picture:
        return np.array((picture if picture.mode in ("L", "RGB") else picture.convert("RGB")).convert("L"))


def torchange_paths(root: Path, folders: tuple[str, ...]) -> list[Item]:
    """Sorted ``<first>/*.png``; the other paths come from replacing the first folder's name in the whole path, and base
    names have to be equal. [Z-Zheng/pytorch-change-models torchange/data/s2looking.py, second.py, bitemporal.py]"""
    items = []
    for path in sorted(str(path) for path in (root / folders[0]).glob("*.png")):
        others = [path.replace(folders[0], folder) for folder in folders[1:]]
        assert all(Path(other).name == Path(path).name for other in others)
        first, second, *labels = (imread(file) for file in (path, *others))
        items.append(Item(Path(path).stem, (first, second), tuple(labels)))
    return items


def torchange_levir(root: Path) -> list[Item]:
    """``A/*.png``, ``/A/`` replaced by ``/B/`` and ``/label/``. [torchange/data/levircd.py]"""
    items = []
    for path in sorted((root / "A").glob("*.png")):
        parts = [imread(str(path).replace("/A/", f"/{folder}/")) for folder in ("A", "B", "label")]
        items.append(Item(path.stem, (parts[0], parts[1]), (parts[2],)))
    return items


def open_cd(
    root: Path, prefixes: dict[str, str], *, ann_file: str = "", suffix: str = ".png", to_binary: bool = False
) -> list[Item]:
    """Names of ``ann_file`` if it is a file, else of the folder, where both image folders must hold the same; labels are
    read as grey, and ``to_binary`` takes values of 128 and more for changed.
    [likyoo/open-cd opencd/datasets/basecddataset.py, basescddataset.py, transforms/loading.py]"""
    listed = root / ann_file
    if ann_file and listed.is_file():
        names = [line.strip() + suffix for line in listed.read_text().splitlines()]
    else:
        names = sorted(
            path.name for path in (root / prefixes["img_path_from"]).rglob("*") if path.name.endswith(suffix)
        )
        other = sorted(path.name for path in (root / prefixes["img_path_to"]).rglob("*") if path.name.endswith(suffix))
        assert names == other
    items = []
    for name in names:
        images = tuple(imread(root / prefixes[key] / name) for key in ("img_path_from", "img_path_to"))
        keys = [key for key in ("seg_map_path", "seg_map_path_from", "seg_map_path_to") if key in prefixes]
        labels = [imread_grey(root / prefixes[key] / name) for key in keys]
        if to_binary:
            labels[0] = (labels[0] >= 128).astype(np.uint8)
        items.append(Item(Path(name).stem, images, tuple(labels)))  # type: ignore[arg-type]
    return items


def torchgeo_levir(root: Path, split: str) -> list[Item]:
    """``<folder>/<split>*.png``, each sorted by itself, side by side; labels clamped to 0 and 1.
    [torchgeo/torchgeo torchgeo/datasets/levircd.py LEVIRCD]"""
    files = [sorted((root / folder).glob(f"{split}*.png")) for folder in ("A", "B", "label")]
    items = []
    for first, second, label in zip(*files, strict=False):
        images = tuple(np.array(Image.open(path).convert("RGB")) for path in (first, second))
        items.append(Item(first.stem, images, (np.clip(np.array(Image.open(label).convert("L")), 0, 1),)))  # type: ignore[arg-type]
    return items


def changeformer(root: Path, split: str) -> list[Item]:
    """Names from ``np.loadtxt``, which cuts at spaces and ``#``; labels divided by 255.
    [wgcban/ChangeFormer datasets/CD_dataset.py]"""
    items = []
    for name in np.atleast_1d(np.loadtxt(root / "list" / f"{split}.txt", dtype=str)):
        images = tuple(np.asarray(Image.open(root / folder / name).convert("RGB")) for folder in ("A", "B"))
        items.append(Item(Path(name).stem, images, (np.array(Image.open(root / "label" / name), np.uint8) // 255,)))  # type: ignore[arg-type]
    return items


def hyscdg(root: Path) -> list[Item]:
    """``{t1,t2}_{images,masks}/*.tif`` of equal names; what changed is where the masks differ.
    [yb23/HySCDG, its loader of Changen2]"""
    import rasterio

    items = []
    for path in sorted((root / "t1_images").glob("*.tif")):
        bands = []
        for folder in ("t1_images", "t2_images", "t1_masks", "t2_masks"):
            with rasterio.open(root / folder / path.name) as source:
                bands.append(source.read())
        first, second = (np.moveaxis(image, 0, 2) for image in bands[:2])
        items.append(Item(path.stem, (first, second), (bands[2][0], bands[3][0], bands[2][0] != bands[3][0])))
    return items


def torchange_hub(root: Path, split: str) -> list[Item]:
    """``load_dataset(repo, split=…).with_format('numpy')``, columns by name, masks as they are.
    [torchange/data/bitemporal.py HFBitemporalDataset]"""
    import datasets

    loaded = datasets.load_dataset(str(root), split=split).with_format("numpy")
    items = []
    for row in loaded:
        labels = tuple(row[name] for name in ("t1_mask", "t2_mask", "change_mask") if name in row)
        items.append(Item(str(row["image_name"]), (row["t1_image"], row["t2_image"]), labels))
    return items
