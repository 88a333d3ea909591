"""What a report knows of a whole dataset before a pixel is read: one short entry per sample, and figures to draw."""

from __future__ import annotations

import hashlib
import math
from bisect import bisect_right
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, get_args

from changen_cli.core.errors import OutputError
from changen_cli.core.types import EventKind
from changen_cli.exports.findings import one_line
from changen_cli.exports.reading import Row

AREA_EDGES_PX = (0, 64, 128, 256, 512, 1024, 2048, 4096, 8192, 16384)
"""Lower edges of the bins of event areas."""
SHARE_EDGES = (0.0, 0.01, 0.02, 0.03, 0.04, 0.05, 0.06, 0.08, 0.1, 0.15, 0.2, 0.3)
"""Lower edges of the bins of changed shares."""
MAX_CLASSES = 16
"""Most classes the transition matrix shows: those with the most changes."""
_NOTHING = "no event"


@dataclass(frozen=True, slots=True)
class Entry:
    """What filters and cards need to know of a sample.

    Attributes:
        number: Its place in the dataset.
        id: Its name.
        kinds: Kinds of its events.
        classes: Ids of the classes its events lead from and to.
        share: Changed share of its tile over all steps, 0 to 1.
        events: How many.
        rejected: Why attempts at it were rejected; empty where none was, or nobody asked.
        dates: Of its series.
    """

    number: int
    id: str
    kinds: tuple[str, ...]
    classes: tuple[int, ...]
    share: float
    events: int
    rejected: tuple[str, ...]
    dates: int

    @property
    def strata(self) -> tuple[str, ...]:
        """What a choice of samples is spread over: kinds of events, and whether attempts were rejected."""
        return (*(self.kinds or (_NOTHING,)), *(("rejected",) if self.rejected else ()))


class Index:
    """Entries and figures of a dataset. Memory grows with the number of samples, not with their events or pixels.

    Args:
        logs: Metadata and events of all samples, in order.

    Attributes:
        entries: One per sample.
        figures: What the charts show, ready for JSON.

    Raises:
        OutputError: An event or a row is not what it should be.
    """

    def __init__(self, logs: Iterable[tuple[Row, Sequence[Row]]]) -> None:
        self.entries: list[Entry] = []
        self._kinds: dict[str, dict[str, list[int]]] = {}
        self._pairs: dict[tuple[int, int], list[int]] = {}
        self._shares = {"asked": [0] * len(SHARE_EDGES), "made": [0] * len(SHARE_EDGES)}
        self._steps = 0
        for number, (row, events) in enumerate(logs):
            try:
                self._add(number, row, events)
            except (KeyError, TypeError, ValueError, AttributeError, OverflowError) as error:
                raise OutputError(
                    f"{row.get('image_name')}: its metadata or events are not as they should be: {one_line(error)}",
                    "Run changen validate on the dataset",
                ) from None

    @property
    def kinds(self) -> list[str]:
        """The kinds that occur: those known first, as they are listed everywhere."""
        known = [kind for kind in get_args(EventKind) if kind in self._kinds]
        return known + sorted(set(self._kinds) - set(known))

    @property
    def figures(self) -> dict[str, Any]:
        """Counts for the charts."""
        weights: dict[int, int] = {}
        for (before, after), (_, area) in self._pairs.items():
            weights[before] = weights.get(before, 0) + area
            weights[after] = weights.get(after, 0) + area
        shown = sorted(sorted(weights, key=lambda index: (-weights[index], index))[:MAX_CLASSES])
        return {
            "steps": self._steps,
            "by_step": {kind: self._kinds[kind]["steps"] for kind in self.kinds},
            "area_edges": AREA_EDGES_PX,
            "by_area": {kind: self._kinds[kind]["areas"] for kind in self.kinds},
            "classes": shown,
            "matrix": [[self._pairs.get((before, after), [0, 0]) for after in shown] for before in shown],
            "share_edges": SHARE_EDGES,
            "shares": self._shares if any(self._shares["made"]) else {},
        }

    def _add(self, number: int, row: Row, events: Sequence[Row]) -> None:
        steps = int(row["dates"]) - 1
        self._lengthen(steps)
        classes: set[int] = set()
        kinds: set[str] = set()
        for event in events:
            kind, area = str(event["kind"]), int(event["area_px"])
            before, after = int(event["from_class"]), int(event["to_class"])
            kinds.add(kind)
            classes |= {before, after}
            found = self._kinds.setdefault(kind, {"steps": [0] * self._steps, "areas": [0] * len(AREA_EDGES_PX)})
            step = int(event["step"])
            if not 0 <= step < steps:
                raise ValueError(f"an event of step {step}")
            found["steps"][step] += 1
            found["areas"][bisect_right(AREA_EDGES_PX, max(area, 0)) - 1] += 1
            pair = self._pairs.setdefault((before, after), [0, 0])
            pair[0] += 1
            pair[1] += area
        made = [float(share) for share in row["changed_fraction"]]
        if not row.get("negative"):
            self._count("made", made)
            self._count("asked", [float(share) for share in row.get("asked") or ()])
        share = min(1.0, math.fsum(made))
        self.entries.append(
            Entry(
                number, str(row["image_name"]), tuple(k for k in self.kinds if k in kinds), tuple(sorted(classes)),
                round(share, 5), len(events), tuple(rejections(row)), steps + 1,
            )
        )  # fmt: skip

    def _lengthen(self, steps: int) -> None:
        self._steps = max(self._steps, steps)
        for found in self._kinds.values():
            found["steps"] += [0] * (self._steps - len(found["steps"]))

    def _count(self, name: str, shares: Sequence[float]) -> None:
        for share in shares:
            self._shares[name][max(0, bisect_right(SHARE_EDGES, share) - 1)] += 1


def rejections(row: Mapping[str, Any]) -> Iterator[str]:
    """Why attempts at a sample were rejected, as a quality gate notes it in ``rejected``; else nothing."""
    noted = row.get("rejected")
    if not noted:
        return
    if isinstance(noted, Mapping):
        noted = [f"{reason}: {count}" for reason, count in noted.items()]
    if isinstance(noted, str):
        noted = noted.split(", ")
    for reason in noted if isinstance(noted, list | tuple) else [noted]:
        told = reason.get("reason", reason) if isinstance(reason, Mapping) else reason
        yield "rejected" if told is True else str(told)[:200]


def choose(entries: Sequence[Entry], count: int) -> list[Entry]:
    """Choose samples to show, the same ones every time, in the order in which they would be given up last.

    The kinds of events take turns, rarest first, so that a kind that occurs is seen; within a kind the order is that of
    a hash of the id, which has nothing to do with the order of the dataset.
    """
    strata: dict[str, list[Entry]] = {}
    for entry in entries:
        for stratum in entry.strata:
            strata.setdefault(stratum, []).append(entry)
    for found in strata.values():
        found.sort(key=lambda entry: (_draw(entry.id), entry.number), reverse=True)
    turns = [strata[name] for name in sorted(strata, key=lambda name: (len(strata[name]), name))]
    chosen: dict[int, Entry] = {}
    while len(chosen) < min(count, len(entries)):
        for waiting in turns:
            while waiting and waiting[-1].number in chosen:
                waiting.pop()
            if waiting and len(chosen) < count:
                entry = waiting.pop()
                chosen[entry.number] = entry
    return list(chosen.values())


def _draw(name: str) -> bytes:
    return hashlib.blake2b(name.encode("utf-8", "backslashreplace"), digest_size=8).digest()
