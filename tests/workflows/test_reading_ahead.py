"""The thread that reads ahead: order, errors, bounds, and that it ends."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator

import pytest

from changen_cli.workflows.ahead import read_ahead
from changen_cli.workflows.loop import holds_pixels
from changen_cli.workflows.plans import gather, open_labelled_source, plan_samples
from tests.conftest import write_pairs


def running() -> int:
    return sum(thread.name == "read-ahead" and thread.is_alive() for thread in threading.enumerate())


def wait_until(condition) -> bool:
    deadline = time.monotonic() + 5
    while not condition() and time.monotonic() < deadline:
        time.sleep(0.01)
    return condition()


def test_order_is_kept_and_the_thread_ends() -> None:
    assert list(read_ahead(iter(range(50)), depth=3)) == list(range(50))
    assert list(read_ahead(iter([]), depth=1)) == []
    assert running() == 0


def test_none_is_an_item_too() -> None:
    assert list(read_ahead(iter([None, 1, None]), depth=1)) == [None, 1, None]


@pytest.mark.parametrize("error", [ValueError("bad"), KeyboardInterrupt(), MemoryError()])
def test_errors_surface_after_the_items_before_them(error: BaseException) -> None:
    def items() -> Iterator[int]:
        yield from (1, 2)
        raise error

    seen = []
    with pytest.raises(type(error)) as raised:  # noqa: PT012
        for item in read_ahead(items(), depth=1):
            seen.append(item)
    assert seen == [1, 2]
    assert raised.value is error
    assert running() == 0


def test_it_stays_within_its_depth_and_runs_elsewhere() -> None:
    made: list[int] = []
    threads: set[str] = set()

    def items() -> Iterator[int]:
        for number in range(100):
            made.append(number)
            threads.add(threading.current_thread().name)
            yield number

    ahead = read_ahead(items(), depth=2)
    assert next(ahead) == 0
    assert wait_until(lambda: len(made) == 4), "one taken, two waiting, one in hand"
    time.sleep(0.3)
    assert len(made) == 4
    assert threads == {"read-ahead"}
    ahead.close()
    assert running() == 0
    assert len(made) <= 5


def test_closed_early_it_stops_its_thread() -> None:
    ahead = read_ahead(iter(range(10**9)), depth=1)
    next(ahead)
    assert running() == 1
    ahead.close()
    assert running() == 0


def test_small_items_take_no_room() -> None:
    made: list[int] = []

    def items() -> Iterator[int]:
        for number in range(100):
            made.append(number)
            yield number

    ahead = read_ahead(items(), 2, lambda number: number % 10 == 9)
    assert next(ahead) == 0
    assert wait_until(lambda: len(made) == 30), "two large ones wait, the third is in hand"
    time.sleep(0.3)
    assert len(made) == 30
    assert [next(ahead) for _ in range(99)] == list(range(1, 100))
    assert list(ahead) == [] and running() == 0


def test_an_error_of_the_consumer_stops_the_thread() -> None:
    ahead = read_ahead(iter(range(10**9)), depth=1)
    with pytest.raises(RuntimeError), _closing(ahead):
        raise RuntimeError
    assert running() == 0


def _closing(ahead):
    from contextlib import closing

    next(ahead)
    return closing(ahead)


def test_scenes_of_which_all_is_there_take_room(tmp_path, make_recipe) -> None:
    recipe = make_recipe(write_pairs(tmp_path / "in", 3), variants=2)
    source = open_labelled_source(recipe)
    there = {f"s{number}_v{variant:02d}" for number in (0, 1) for variant in (0, 1)}
    library, textures = gather(recipe, source)
    work = [*plan_samples(source, source, recipe, library, textures, made=there)]
    assert [type(item).__name__ for item in work] == ["Used", "Used", "Used", "Plan", "Plan"]
    assert [holds_pixels(item) for item in work] == [True, True, False, True, True]
