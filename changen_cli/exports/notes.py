"""What an export tells the user about: what the layout does not show, or shows otherwise than it seems."""

from __future__ import annotations

from changen_cli.core.types import BoolArray


class Notes(list[str]):
    """Lines for the user, each of them once."""

    def add(self, text: str, *, holds: bool) -> None:
        """Note something, if it holds for a sample."""
        if holds and text not in self:
            self.append(text)


class Coverage:
    """Counts changed pixels and those a layout labels, where it knows fewer kinds of change.

    Args:
        kind: What the layout labels, for the message.
    """

    def __init__(self, kind: str) -> None:
        self._kind = kind
        self._all = self._shown = 0

    def add(self, change: BoolArray, shown: BoolArray) -> None:
        """Count one pair: where its masks differ, and what of it is labelled."""
        self._all += int(change.sum())
        self._shown += int(shown.sum())

    def notes(self) -> list[str]:
        """One line if anything is left out."""
        left = self._all - self._shown
        if not left:
            return []
        return [
            f"{left / self._all:.1%} of the changed pixels carry no label: the layout shows {self._kind} only, "
            "though the images show the rest"
        ]
