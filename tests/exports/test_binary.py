"""Building change sets, read back by the documented rules of their readers."""

from __future__ import annotations

import numpy as np
from PIL import Image

from changen_cli.exports.master import open_master, pairs
from changen_cli.workflows.export import export
from changen_cli.workflows.progress import Silent


def test_levir_cd(made, tmp_path) -> None:
    """Three files of equal name in A, B and label; labels are 0 and 255 in mode L. [Z-Zheng/pytorch-change-models]"""
    target = tmp_path / "levir"
    report = export(made("building"), target, layout="levir-cd", progress=Silent())
    expected = {pair.name: pair for sample in open_master(made("building")).samples() for pair in pairs(sample)}
    assert report.items == {"train": len(expected)}
    names = sorted(path.name for path in (target / "train" / "A").iterdir())
    assert names == sorted(f"{name}.png" for name in expected)
    for name in names:
        first = target / "train" / "A" / name
        label = Image.open(str(first).replace("/A/", "/label/"))
        pair = expected[first.stem]
        assert label.mode == "L" and set(np.unique(label)) <= {0, 255}
        assert np.array_equal(np.asarray(label) > 0, pair.change)
        for folder, stored in zip("AB", pair.images, strict=True):
            image = Image.open(str(first).replace("/A/", f"/{folder}/"))
            assert image.mode == "RGB" and np.array_equal(np.asarray(image), stored.array())
