"""COCO: every building of every date as an instance, for detectors and trackers.

``{split}/images/<sample>_t<date>.png`` and ``{split}/annotations.json``. What COCO does not have are ``track_id``, the
same for one building at all its dates, ``object_id``, its name in the dataset, and of images ``sample``, ``time_index``
and ``date``. A category has the id its class has in the dataset's masks.

Segmentations give back exactly the pixels of the masks: polygons along pixel edges, which pycocotools fills without
loss, and uncompressed RLE for a building with a courtyard, which COCO's polygons cannot say. [cocodataset/cocoapi]
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

import numpy as np

from changen_cli.core.types import BoolArray, ClassSchema
from changen_cli.exports.dates import date_names
from changen_cli.exports.findings import Finding
from changen_cli.exports.formats import PairMode
from changen_cli.exports.images import put_rgb_png
from changen_cli.exports.master import Master, Sample
from changen_cli.exports.names import SafeNames
from changen_cli.exports.objects import OLD_DATASET, Outline, need_objects, object_numbers, outlines

ANNOTATIONS = "annotations.json"


class Coco:
    """Writes COCO; implements :class:`changen_cli.exports.formats.Exporter`."""

    def __init__(self, target: Path, master: Master, mode: PairMode) -> None:
        need_objects(master, "coco")
        self._target, self._master = target, master
        self._names = SafeNames()
        self._splits: dict[str, _Split] = {}
        self.notes: list[str] = []

    def write(self, sample: Sample, split: str) -> int:
        """Add all dates of a sample."""
        if not sample.instances and OLD_DATASET not in self.notes:
            self.notes.append(OLD_DATASET)
        if split not in self._splits:
            self._splits[split] = _Split(self._target / split)
        stem, numbers = self._names(sample.id), object_numbers(sample, self._master.schema)
        self._splits[split].add(sample, stem, *numbers)
        return 1

    def close(self) -> None:
        """Put the annotations of every split together."""
        for split in self._splits.values():
            split.close(self._master)

    @staticmethod
    def check(folder: Path) -> Iterator[Finding]:
        """Check the annotations of every split, and that they fit the images."""
        from changen_cli.exports.coco_check import check_coco

        yield from check_coco(folder)


class _Split:
    """The annotations of one split in the making: on disk, because there can be millions."""

    def __init__(self, root: Path) -> None:
        self._root = root
        root.mkdir(parents=True)
        self._parts: dict[str, IO[str]] = {
            key: (root / f".{key}.part").open("w+", encoding="utf-8") for key in ("images", "annotations")
        }
        self._counts = dict.fromkeys(self._parts, 0)
        self._tracks = 0

    def _put(self, key: str, row: dict[str, Any]) -> int:
        self._counts[key] += 1
        comma = ",\n" if self._counts[key] > 1 else ""
        self._parts[key].write(comma + json.dumps({"id": self._counts[key], **row}, ensure_ascii=False))
        return self._counts[key]

    def add(self, sample: Sample, stem: str, numbers: Any, names: dict[int, str]) -> None:
        """Add the dates of a sample."""
        tracks = {number: self._tracks + index for index, number in enumerate(sorted(names), start=1)}
        self._tracks += len(names)
        height, width = numbers.shape[1:]
        dates = date_names(sample) if sample.calendar else [None] * len(numbers)
        for t, (image, date) in enumerate(zip(sample.images, dates, strict=True)):
            name = f"{stem}_t{t}.png"
            put_rgb_png(image, self._root / "images" / name)
            told = {"sample": sample.id, "time_index": t, **({"date": date} if date else {})}
            image_id = self._put("images", {"file_name": name, "width": width, "height": height, **told})
            for outline in outlines(numbers[t], sample.mask_arrays[t]):
                row0, col0, row1, col1 = outline.box
                self._put("annotations", {
                    "image_id": image_id,
                    "category_id": outline.class_id,
                    "segmentation": segmentation(outline, numbers[t] == outline.number),
                    "area": outline.area_px,
                    "bbox": [col0, row0, col1 - col0, row1 - row0],
                    "iscrowd": 0,
                    "track_id": tracks[outline.number],
                    "object_id": names[outline.number],
                })  # fmt: skip

    def close(self, master: Master) -> None:
        """Write ``annotations.json``."""
        head = {"info": {"description": f"{master.name}, made by changen"}, "licenses": []}
        texts = [f'"{key}": {json.dumps(value, ensure_ascii=False)}' for key, value in head.items()]
        texts.append(f'"categories": {json.dumps(categories(master.schema), ensure_ascii=False)}')
        with (self._root / ANNOTATIONS).open("w", encoding="utf-8") as target:
            target.write("{" + ",\n".join(texts))
            for key, part in self._parts.items():
                target.write(f',\n"{key}": [\n')
                part.seek(0)
                while block := part.read(1 << 20):
                    target.write(block)
                target.write("\n]")
                part.close()
                Path(part.name).unlink()
            target.write("}\n")


def categories(schema: ClassSchema) -> list[dict[str, Any]]:
    """COCO's categories: the classes that are buildings, or the object of proposals."""
    kind = "object" if schema.class_agnostic else "building"
    return [{"id": index, "name": schema.names[index], "supercategory": kind} for index in sorted(schema.building_ids)]


def segmentation(outline: Outline, pixels: BoolArray) -> list[list[float]] | dict[str, Any]:
    """Polygons where no piece has a hole, else uncompressed RLE.

    Args:
        outline: The object.
        pixels: Bool ``[H, W]``, where it is.
    """
    if all(len(polygon) == 1 for polygon in outline.polygons):
        return [[value for point in polygon[0][:-1] for value in point] for polygon in outline.polygons]
    return {"size": list(pixels.shape), "counts": run_lengths(pixels)}


def run_lengths(pixels: BoolArray) -> list[int]:
    """COCO's uncompressed RLE: lengths of runs in column order, of pixels outside first, inside next, and so on."""
    flat = pixels.ravel(order="F")
    ends = np.flatnonzero(np.diff(flat, prepend=False))
    return np.diff(np.concatenate([[0], ends, [flat.size]])).tolist()  # type: ignore[no-any-return]
