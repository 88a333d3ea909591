"""Work done ahead of time, on another thread."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Generator, Iterator
from typing import Any, TypeVar

Item = TypeVar("Item")


_SMALL_ITEMS = 256
_PATIENCE_S = 0.2


def read_ahead(
    items: Iterator[Item], depth: int, is_large: Callable[[Item], bool] = lambda item: True
) -> Generator[Item, None, None]:
    """Run an iterator on another thread, at most ``depth`` large items ahead; its errors surface here.

    Args:
        items: The iterator.
        depth: So many large items may wait.
        is_large: Which items take memory; a few hundred of the others may wait too.
    """
    ahead: queue.Queue[tuple[str, Any]] = queue.Queue(maxsize=_SMALL_ITEMS)
    room = threading.Semaphore(depth)
    stop = threading.Event()

    def put(kind: str, value: Any) -> None:
        while kind == "item" and is_large(value) and not stop.is_set() and not room.acquire(timeout=_PATIENCE_S):
            continue
        while not stop.is_set():
            try:
                return ahead.put((kind, value), timeout=_PATIENCE_S)
            except queue.Full:
                continue

    def work() -> None:
        try:
            for item in items:
                put("item", item)
                if stop.is_set():
                    return
            put("end", None)
        except BaseException as error:
            put("error", error)
        finally:
            if isinstance(items, Generator):
                items.close()  # here and now: what it holds, processes perhaps, must not outlive the run

    thread = threading.Thread(target=work, name="read-ahead", daemon=True)
    thread.start()
    try:
        while True:
            kind, value = ahead.get()
            if kind == "error":
                raise value
            if kind == "end":
                return
            if is_large(value):
                room.release()
            yield value
    finally:
        stop.set()
        thread.join(timeout=5)
