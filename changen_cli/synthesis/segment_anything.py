"""Object proposals by Segment Anything (Kirillov et al., ICCV 2023), run through transformers, which is optional.

Every point of a grid asks the model for masks; those it is sure of are kept. Images are prepared here, not by
transformers' own processors: those need torchvision.
"""

from __future__ import annotations

import hashlib
import json
import re
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError
from scipy import ndimage

from changen_cli.core.errors import ModelError
from changen_cli.core.files import sha256
from changen_cli.core.manifest import ModelRecord
from changen_cli.core.proposals import object_sizes_px
from changen_cli.core.types import BoolArray, Int32Array, UInt8Array
from changen_cli.synthesis.hub import Files, find_segmenter

# Of the images the model was trained on (ImageNet), in 0..255.
_MEAN, _STD = (123.675, 116.28, 103.53), (58.395, 57.12, 57.375)
_POINTS_PER_BATCH = 32
_NEW_SHARE = 0.7  # of a mask that better ones must not have taken, or it is another reading of the same object
_Found = tuple[float, tuple[slice, slice], BoolArray]  # expected quality, where the box lies, the mask in it
_OFFSET = 1.0  # of the logits: a mask is stable if it hardly depends on where it is cut off


class SegmentAnything:
    """Finds objects in images; called like any other proposer.

    Args:
        model: Path or Hub id of a SAM model, e.g. ``facebook/sam-vit-base``.
        device: Where it runs, in float32.
        points_per_side: Points of the grid along each side of the image.
        least_iou: Least quality the model must expect of a mask.
        least_stability: Least intersection over union of the mask cut off 1 above and 1 below the usual logit.

    Attributes:
        record: What the manifest says of the model.

    Raises:
        ModelError: When transformers is missing or the model cannot be loaded.
    """

    def __init__(
        self,
        model: str,
        device: str = "cpu",
        *,
        points_per_side: int = 32,
        least_iou: float = 0.88,
        least_stability: float = 0.95,
    ) -> None:
        try:
            from transformers import SamModel
            from transformers.utils import logging
        except ImportError:
            raise ModelError("--proposals sam needs transformers", "pip install 'changen[sam]'") from None
        logging.disable_progress_bar()  # the command has its own
        files = find_segmenter(model)
        try:
            self.model: Any = SamModel.from_pretrained(files.folder).to(device).eval()
        except (OSError, ValueError, RuntimeError, KeyError, SafetensorError) as error:
            reason = (str(error).strip().splitlines() or [type(error).__name__])[0].rstrip(".")
            raise ModelError(
                f"{model} cannot be loaded as a Segment Anything model: {reason}", "Give --sam-model a path or Hub id"
            ) from error
        self.record = _record(files)
        self.device = device
        self.points_per_side, self.least_iou, self.least_stability = points_per_side, least_iou, least_stability

    @torch.inference_mode()
    def __call__(self, image: UInt8Array, gsd_m: float | None = None) -> Int32Array:
        """Find objects in one image.

        Args:
            image: uint8 ``[H, W, 3]``, RGB.
            gsd_m: Metres per pixel; None where it is not known.

        Returns:
            int32 ``[H, W]``: 0 where nothing was found, else the object's number 1..N. Where masks overlap, the one of
            the higher expected quality has the pixels.
        """
        height, width = image.shape[:2]
        sizes_px = object_sizes_px(height * width, gsd_m)
        side = self.model.config.vision_config.image_size
        scale = side / max(height, width)
        embeddings = self.model.get_image_embeddings(self._prepare(image, side))
        found: list[_Found] = []
        for points in self._grid(height, width).split(_POINTS_PER_BATCH):
            answer = self.model(
                image_embeddings=embeddings, input_points=(points * scale).to(self.device)[None, :, None]
            )
            masks, scores = answer.pred_masks[0].flatten(0, 1), answer.iou_scores[0].flatten()
            found += self._sure(masks, scores, (height, width), sizes_px)
        numbers = np.zeros((height, width), dtype=np.int32)
        # Sorting is stable: equal scores stay in the order of the grid.
        count = 0
        for _, where, mask in sorted(found, key=lambda entry: -entry[0]):
            new = mask & (numbers[where] == 0)
            if new.sum() >= max(sizes_px[0], _NEW_SHARE * mask.sum()):
                count += 1
                numbers[where][new] = count
        return numbers

    def _prepare(self, image: UInt8Array, side: int) -> torch.Tensor:
        """Resize the longer side to the model's, normalise, and pad below and to the right with the mean colour."""
        size = _resized((image.shape[0], image.shape[1]), side)
        pixels = torch.tensor(image, device=self.device, dtype=torch.float32).permute(2, 0, 1)[None]
        pixels = torch.nn.functional.interpolate(pixels, size, mode="bilinear", antialias=True)
        mean, std = (torch.tensor(values, device=self.device)[:, None, None] for values in (_MEAN, _STD))
        return torch.nn.functional.pad((pixels - mean) / std, (0, side - size[1], 0, side - size[0]))

    def _grid(self, height: int, width: int) -> torch.Tensor:
        """Points (col, row) in the middle of equal cells, float32 ``[P, 2]``, in pixels of the image."""
        steps = (torch.arange(self.points_per_side) + 0.5) / self.points_per_side
        rows, cols = torch.meshgrid(steps * height, steps * width, indexing="ij")
        return torch.stack([cols.flatten(), rows.flatten()], dim=1)

    def _sure(
        self, logits: torch.Tensor, scores: torch.Tensor, shape: tuple[int, int], sizes_px: tuple[float, float]
    ) -> list[_Found]:
        """Keep the masks the model is sure of, enlarged to the image.

        Args:
            logits: float32 ``[M, h, w]``, of the padded image.
            scores: float32 ``[M]``, expected intersection over union.
            shape: Height and width of the image.
            sizes_px: Smallest and largest area of an object.
        """
        sizes = (logits > _OFFSET).sum(dim=(1, 2)), (logits > -_OFFSET).sum(dim=(1, 2))
        keep = (scores >= self.least_iou) & (sizes[0] >= self.least_stability * sizes[1]) & (sizes[0] > 0)
        if not keep.any():
            return []
        side = self.model.config.vision_config.image_size
        padded = torch.nn.functional.interpolate(logits[keep][None], (side, side), mode="bilinear")
        rows, cols = _resized(shape, side)
        masks = torch.nn.functional.interpolate(padded[..., :rows, :cols], shape, mode="bilinear")[0] > 0
        areas = masks.sum(dim=(1, 2))
        sized = (areas >= sizes_px[0]) & (areas <= sizes_px[1])
        found = []
        for score, mask in zip(scores[keep][sized].tolist(), masks[sized].cpu().numpy(), strict=True):
            # Only the box is kept: a grid finds a thousand masks, and whole ones would fill the memory.
            where = ndimage.find_objects(mask.astype(np.uint8))[0]
            found.append((score, where, mask[where].copy()))
        return found


def _record(files: Files) -> ModelRecord:
    """Identity and licence of a model; several weight files have one hash over theirs."""
    hashes = {name: sha256(files.folder / name) for name in files.names if name.endswith((".safetensors", ".bin"))}
    lines = "".join(f"{digest}  {name}\n" for name, digest in hashes.items())
    several = len(hashes) > 1
    return ModelRecord(
        id=files.id,
        sha256=hashlib.sha256(lines.encode()).hexdigest() if several else next(iter(hashes.values())),
        architecture="Segment Anything",
        license=_license(files),
        facts=({"files": hashes} if several else {}) | ({"revision": files.revision} if files.revision else {}),
    )


def _license(files: Files) -> str:
    """The licence by the head of the model card, else by the configuration, else "not stated"."""
    import yaml

    card = files.folder / "README.md"
    text = card.read_text(encoding="utf-8", errors="replace") if "README.md" in files.names else ""
    head = re.match(r"---\s*\n(.*?)\n---\s*\n", text, re.DOTALL)
    config = json.loads((files.folder / "config.json").read_text(encoding="utf-8"))
    try:
        told = yaml.safe_load(head[1]) if head else None
    except yaml.YAMLError:
        told = None
    return next((str(facts["license"]) for facts in (told, config) if isinstance(facts, dict) and facts.get("license")),
                "not stated")  # fmt: skip


def _resized(shape: tuple[int, int], side: int) -> tuple[int, int]:
    """Height and width of an image whose longer side is brought to ``side``."""
    scale = side / max(shape)
    return max(1, round(shape[0] * scale)), max(1, round(shape[1] * scale))
