"""Splits by place: all samples of one source image go to the same split."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence

from changen_cli.core.errors import UsageError

NAMES = ("train", "val", "test")
_HUB_NAMES = {"val": "validation"}


def hub_name(split: str) -> str:
    """What the Hub's viewer and ``datasets`` call a split."""
    return _HUB_NAMES.get(split, split)


def local_name(split: str) -> str:
    """What the layouts call a split of a dataset, also of one that comes from the Hub.

    Raises:
        UsageError: They know no such split.
    """
    for name in NAMES:
        if split in (name, hub_name(name)):
            return name
    raise UsageError(f"the dataset has a split {split!r}, layouts know {', '.join(NAMES)}", "Draw anew with --split")


def parse_shares(text: str) -> tuple[float, ...]:
    """``"0.8,0.1,0.1"`` to the shares of train, val and test.

    Raises:
        UsageError: They are not one to three positive numbers that add up to 1.
    """
    try:
        shares = tuple(float(part) for part in text.split(","))
    except ValueError:
        shares = ()
    # Written so that "nan" fails it.
    if not (1 <= len(shares) <= len(NAMES) and min(shares) > 0 and abs(sum(shares) - 1) < 1e-6):
        raise UsageError(
            f"--split {text}: one to three shares that add up to 1 are needed", "For instance --split 0.8,0.1,0.1"
        )
    return shares


def assign_splits(groups: Iterable[str], shares: Sequence[float]) -> dict[str, str]:
    """Give every place a split.

    A place is drawn by a hash of its name alone: samples added later never move an old place, so that nothing a
    model was tested on turns up in training. Shares are therefore met in the mean only. A split that no place fell to
    takes the one whose draw came nearest.

    Args:
        groups: Names of the places.
        shares: Shares of train, val and test, adding up to 1.

    Returns:
        Place → split.

    Raises:
        UsageError: There are fewer places than splits.
    """
    draws = sorted((_draw(group), group) for group in set(groups))
    if len(draws) < len(shares):
        raise UsageError(
            f"--split asks for {len(shares)} splits, but the dataset shows {len(draws)} place(s) only",
            "One place cannot be in two splits: use more source images or fewer splits",
        )
    bounds = [sum(shares[:i]) for i in range(len(shares) + 1)]
    cuts = [sum(draw < bound for draw, _ in draws) for bound in bounds[1:-1]]
    # Every split keeps one place at least: its cuts are pushed apart from the left, then from the right.
    for i in range(len(cuts)):
        cuts[i] = max(cuts[i], i + 1, cuts[i - 1] + 1 if i else 1)
    for i in reversed(range(len(cuts))):
        cuts[i] = min(cuts[i], len(draws) - (len(cuts) - i), cuts[i + 1] - 1 if i + 1 < len(cuts) else len(draws))
    edges = [0, *cuts, len(draws)]
    return {group: NAMES[i] for i in range(len(shares)) for _, group in draws[edges[i] : edges[i + 1]]}


def _draw(group: str) -> float:
    """A number in [0, 1) that only the name decides."""
    return int.from_bytes(hashlib.blake2b(group.encode(), digest_size=8).digest(), "big") / 2**64
