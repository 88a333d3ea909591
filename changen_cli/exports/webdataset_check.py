"""Checks of tar files for webdataset, also of those that do not come from changen.

A key is what comes before the first dot; files of one key that follow each other are one sample. A key that comes again
is a second sample to the reader, which then lacks files. [webdataset/webdataset]
"""

from __future__ import annotations

import re
import tarfile
from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np

from changen_cli.core.untrusted import JSON_BYTES, parse_json
from changen_cli.exports.findings import Finding, Problem, one_line
from changen_cli.exports.layers import relative
from changen_cli.exports.reading import Pixels, decode

_KEY = re.compile(r"((?:.*/)?[^./]+)\.([^/]+)")
_SHARD = re.compile(r"(.*?)(\d+)\.tar")
_PIXELS = ("png", "jpg", "jpeg", "tif", "tiff")
_CHANGE = re.compile(r"t(\d+)_t(\d+)_change\.png")


def check_webdataset(root: Path) -> Iterator[Finding]:
    """Check ``*.tar`` of the folder and of the folders in it, each of which is one split."""
    folders = sorted({path.parent for path in (*root.glob("*.tar"), *root.glob("*/*.tar"))})
    if not folders:
        yield Finding(".", "holds no tar file", "Name the folder that holds the splits")
    for folder in folders:
        shards = sorted(folder.glob("*.tar"))
        yield from _check_numbers(root, folder, shards)
        seen: dict[str, str] = {}
        kinds: frozenset[str] = frozenset()
        for shard in shards:
            for key, files, problem in _samples(shard):
                if problem:
                    yield Finding(relative(root, shard), problem, "Export it again, or remove the member")
                    continue
                place = f"{relative(root, shard)}:{key}"
                if key in seen:
                    fix = "The files of a sample lie side by side, and keys are unique in a split"
                    yield Finding(place, f"is a second sample of this key, after one in {seen[key]}", fix)
                seen.setdefault(key, shard.name)
                kinds = kinds or frozenset(files)
                if kinds != frozenset(files):
                    other = ", ".join(sorted(kinds ^ frozenset(files)))
                    fix = "All samples of a split have the same files"
                    yield Finding(place, f"has other files than the first sample: {other}", fix)
                yield from (Finding(place, *found) for found in _sample_problems(files))


def _check_numbers(root: Path, folder: Path, shards: list[Path]) -> Iterator[Finding]:
    numbers: dict[str, list[int]] = {}
    for shard in shards:
        if found := _SHARD.fullmatch(shard.name):
            numbers.setdefault(found[1], []).append(int(found[2]))
    for prefix, found_numbers in numbers.items():
        missing = sorted(set(range(max(found_numbers) + 1)) - set(found_numbers))
        if missing:
            message = f"lacks shard {missing[0]} of {prefix}*.tar"
            fix = "Shards count from 0 without a gap, so that {000000..n} names them all"
            yield Finding(relative(root, folder), message, fix)


def _samples(shard: Path) -> Iterator[tuple[str, dict[str, bytes], str]]:
    """Key and files of every sample, by the part of the name after the key; or what is wrong with a member."""
    key = ""
    files: dict[str, bytes] = {}
    try:
        with tarfile.open(shard, "r|") as tar:
            for member in tar:
                found = _KEY.fullmatch(member.name)
                if member.size > JSON_BYTES:
                    yield "", {}, f"has the member {member.name} of {member.size / 1e6:.0f} MB"
                    continue
                if not member.isfile() or member.issparse() or not found:
                    yield "", {}, f"has the member {member.name}, which belongs to no sample"
                    continue
                if found[1] != key:
                    if files:
                        yield key, files, ""
                    key, files = found[1], {}
                content = tar.extractfile(member)
                if found[2] in files:
                    yield "", {}, f"has the member {member.name} twice"
                files[found[2]] = b"" if content is None else content.read()
    except (OSError, tarfile.TarError) as error:
        yield "", {}, f"cannot be read: {one_line(error)}"
        return
    if files:
        yield key, files, ""


def _sample_problems(files: Mapping[str, bytes]) -> Iterator[Problem]:
    pixels: dict[str, Pixels] = {}
    for name, data in files.items():
        kind = name.rpartition(".")[2].lower()
        try:
            if kind == "json":
                parse_json(data.decode("utf-8"))
            elif kind in _PIXELS:
                pixels[name] = decode(data)[1]
        except ValueError as error:
            yield f"has a {name} that cannot be read: {one_line(error)}", "Export it again"
    sizes = {name: array.shape[:2] for name, array in pixels.items()}
    if len(set(sizes.values())) > 1:
        yield f"has images of several sizes: {sizes}"[:200], "All images of a sample share one grid"
        return
    for name in pixels:
        if not (found := _CHANGE.fullmatch(name)):
            continue
        before, after = (pixels.get(f"t{date}_mask.png") for date in found.groups())
        if before is None or after is None or before.ndim != 2 or after.ndim != 2:
            continue
        wrong = int(np.sum((pixels[name] > 0) != (before != after)))
        if wrong:
            yield f"has a {name} that differs from its masks in {wrong} pixels", "Change is where the two masks differ"
