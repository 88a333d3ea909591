"""Walking an input folder, one directory's sorted names at a time, and naming scenes after where they lie."""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

IMAGE_SUFFIXES = (".png", ".jpg", ".jpeg", ".tif", ".tiff")
MASK_SUFFIXES = (".png", ".tif", ".tiff")

_FORMAT_ENDING = r"(?:[_-]?(?:png|tiff?|jpe?g|rgb))?"
_IMAGE_FOLDER = re.compile(rf"(?:images?|imgs?){_FORMAT_ENDING}", re.IGNORECASE)
_MASK_FOLDER = re.compile(
    rf"(?:masks?|labels?|msks?|gts?|targets?|annotations?|ground[_-]?truths?){_FORMAT_ENDING}", re.IGNORECASE
)
_UNSAFE = re.compile(r"[^A-Za-z0-9._-]+")
_TILE_ENDING = re.compile(r"_r\d{5,}_c\d{5,}$")
_MAX_ID = 150
_MANIFEST_HEAD_BYTES = 65_536
_MANIFEST_KEYS = (re.compile(rb'"fingerprint"\s*:'), re.compile(rb'"recipe"\s*:'))
BAD_NAME = "its name is not valid UTF-8: rename it"


@dataclass(frozen=True)
class Folder:
    """One directory met on the walk.

    Attributes:
        path: Where it is.
        parts: Its place below the root, one name per level; empty for the root.
        prefix: ``parts`` for use in scene ids, without a last ``images`` that tells nothing apart.
        files: Names of its files, sorted; broken links are listed, special files are not.
        folders: Names of its subfolders, sorted.
        error: Why it could not be listed; empty when it could.
    """

    path: Path
    parts: tuple[str, ...]
    prefix: tuple[str, ...]
    files: list[str]
    folders: list[str]
    error: str = ""

    def relative(self, name: str = "") -> str:
        """Path of a file in it below the root, with ``/``; bytes that are no UTF-8 are escaped."""
        return printable("/".join([*self.parts, name] if name else self.parts) or ".")

    def images(self) -> Iterator[str]:
        """Names of the image files that may become scenes. Post-disaster images never do."""
        return filter(is_image, self.files)

    @property
    def mask_folders(self) -> list[str]:
        """Names of the subfolders that are called like mask folders."""
        return [name for name in self.folders if is_mask_folder(name)]


def printable(name: str) -> str:
    """Return a name that can be written as UTF-8: bytes that are not valid are escaped."""
    return name if name.isascii() else name.encode("utf-8", "backslashreplace").decode("utf-8")


def is_image(name: str) -> bool:
    """Whether a file name is that of an image a scene can be made from."""
    return name.lower().endswith(IMAGE_SUFFIXES) and not name.rpartition(".")[0].endswith("_post_disaster")


def is_image_folder(name: str) -> bool:
    """Whether a folder is called like one that holds the images of a set (images, img, images_png, …)."""
    return _IMAGE_FOLDER.fullmatch(name) is not None


def is_mask_folder(name: str) -> bool:
    """Whether a folder is called like one that holds labels (masks, labels, targets, masks_png, …)."""
    return _MASK_FOLDER.fullmatch(name) is not None


def is_changen_output(path: Path) -> bool:
    """Whether a folder is a dataset made by changen: its manifest holds a recipe and the recipe's fingerprint.

    Both stand at the head of the manifest. Its lists of scenes and skips, which follow, may be of any length.
    """
    manifest = path / "manifest.json"
    try:
        if not manifest.is_file():
            return False
        with manifest.open("rb") as file:
            head = file.read(_MANIFEST_HEAD_BYTES)
    except OSError:
        return False
    return head.lstrip().startswith(b"{") and all(key.search(head) for key in _MANIFEST_KEYS)


def list_folder(path: Path) -> tuple[list[str], list[str]]:
    """Return the sorted names of a directory's files and of its subfolders, hidden ones left out.

    Raises:
        OSError: It cannot be listed.
    """
    files, folders = [], []
    with os.scandir(path) as entries:
        for entry in entries:
            if entry.name.startswith("."):
                continue
            try:
                if entry.is_dir():
                    folders.append(entry.name)
                    continue
                readable = entry.is_file() or entry.is_symlink()
            except OSError:  # a link to itself
                readable = True
            if readable:
                # A broken link stays listed, so that it is reported; pipes and devices would block a reader.
                files.append(entry.name)
    return sorted(files), sorted(folders)


def walk(root: Path) -> Iterator[Folder]:
    """Yield a directory tree top down in a fixed order: a folder first, then its subfolders by name.

    Not entered: hidden folders, folders called like mask folders, datasets made by changen, and linked folders that
    lead back into the root or to one of their own ancestors. A folder that cannot be listed, or whose name is no
    valid UTF-8, is yielded empty with its error.
    """
    real_root = os.path.realpath(root)
    # Depth first with an explicit stack; each entry knows the inodes above it, which is what ends link loops.
    stack: list[tuple[Path, tuple[str, ...], tuple[str, ...], frozenset[tuple[int, int]]]] = [
        (root, (), (), frozenset())
    ]
    while stack:
        path, parts, prefix, above = stack.pop()
        try:
            status = path.stat()
            inode = (status.st_dev, status.st_ino)
            if inode in above or (parts and is_changen_output(path)):
                continue
            if parts and printable(parts[-1]) != parts[-1]:
                yield Folder(path, parts, prefix, [], [], BAD_NAME)
                continue
            files, folders = list_folder(path)
        except OSError as error:
            yield Folder(path, parts, prefix, [], [], f"cannot be listed: {error.strerror or error}")
            continue
        folder = Folder(path, parts, prefix, files, folders)
        yield folder
        # A last "images" is left out of ids where nothing beside it could then get the same id.
        lone = sum(map(is_image_folder, folders)) == 1 and not any(map(is_image, files))
        for name in reversed(folders):
            child = path / name
            if is_mask_folder(name) or (child.is_symlink() and _leads_back(child, real_root)):
                continue
            inner = parts if lone and is_image_folder(name) else (*parts, name)
            stack.append((child, (*parts, name), inner, above | {inode}))


def _leads_back(link: Path, real_root: str) -> bool:
    target = os.path.realpath(link)
    return os.path.commonpath([target, real_root]) in (target, real_root)


def scene_id(prefix: tuple[str, ...], stem: str) -> str:
    """Name a scene so that no other file of the tree gets the same name, whatever else the tree holds.

    Folders and stem are joined by ``--``. Where a name had to be changed to be safe, or could be read in two ways
    (it holds ``--`` itself, or ends like a tile's), a hash of the original path is appended.

    Args:
        prefix: The folders below the root.
        stem: The file name without suffix.

    Returns:
        At most 150 characters of ``[A-Za-z0-9._-]``.
    """
    parts = (*prefix, stem)
    name = "--".join(_UNSAFE.sub("_", part) for part in parts)
    plain = all(not _UNSAFE.search(part) and "--" not in part and part.strip("-") == part for part in parts)
    if plain and not _TILE_ENDING.search(stem) and len(name) <= _MAX_ID:
        return name
    digest = hashlib.blake2b("/".join(parts).encode("utf-8", "surrogateescape"), digest_size=5).hexdigest()
    return f"{name[: _MAX_ID - len(digest) - 1]}.{digest}"
