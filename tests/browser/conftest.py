"""A real browser, and a report of a small dataset in which every kind of thing occurs."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from changen_cli.core.recipe import build_recipe
from changen_cli.workflows.generate import generate
from changen_cli.workflows.report import make_report
from tests.exports.conftest import PAVING, write_landcover

BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
HOSTILE = "</script><img src=x onerror=\"document.title='owned'\"><b>bold</b>"
SIZES = {"desktop": (1440, 900), "phone": (390, 844)}


@pytest.fixture(scope="session")
def browser() -> Iterator[Any]:
    api = pytest.importorskip("playwright.sync_api", reason="Playwright is not installed: pip install playwright")
    found = next((path for name in BROWSERS if (path := shutil.which(name))), None)
    if found is None:
        pytest.skip("no Chromium is installed: apt install chromium")
    with api.sync_playwright() as tools:
        running = tools.chromium.launch(executable_path=found, args=["--no-sandbox"])
        yield running
        running.close()


@pytest.fixture(scope="session")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Nine samples of three places, four dates; hostile texts, a rejected attempt, an evaluation."""
    root = tmp_path_factory.mktemp("browser")
    source = write_landcover(root / "source")
    out = root / "<i>out"
    generate(
        build_recipe(
            {
                "source": {"input": str(source), "classes": ("background", "building", "road")},
                "events": {
                    "kinds": ["create", "remove", "transition"],
                    "transitions": PAVING,
                    "steps": 3,
                    "negatives": 0.3,
                },
                "synthesis": {"strength": 0},
                "gate": {"enabled": False},
                "output": {"path": str(out)},
                "variants": 3,
                "seed": 4,
            }
        )
    )
    table = out / "train" / "metadata.jsonl"
    rows = [json.loads(line) for line in table.read_text().splitlines()]
    rows[0] |= {"notes": [HOSTILE, "", ""], "rejected": [{"reason": HOSTILE}], "gate": {"seam": 0.2}}
    table.write_text("".join(json.dumps(row) + "\n" for row in rows))
    (out / "rejected").mkdir()
    for number in range(3):
        Image.new("RGB", (1024, 256), (40 * number, 90, 0)).save(out / "rejected" / f"a_v0{number}_a1_seam.jpg", "JPEG")
    (out / "evaluation.json").write_text(json.dumps({"cues": {"blur_auc": 0.7, "noise_auc": 0.52}, HOSTILE: HOSTILE}))
    return out


@pytest.fixture(scope="session")
def report(dataset: Path) -> str:
    return make_report(dataset).path.as_uri()


@pytest.fixture
def visit(browser: Any) -> Iterator[Callable[..., Any]]:
    """Return ``visit(address, size="desktop", scheme="light")``: an open page.

    At the end nothing may have gone wrong in it, and it may have asked for nothing but itself.
    """
    contexts, wrong, asked = [], [], []

    def open_page(address: str, size: str = "desktop", scheme: str = "light") -> Any:
        width, height = SIZES[size]
        context = browser.new_context(
            viewport={"width": width, "height": height}, color_scheme=scheme, has_touch=size == "phone"
        )
        contexts.append(context)
        page = context.new_page()
        page.set_default_timeout(10_000)
        page.on("console", lambda message: wrong.append(message.text))
        page.on("pageerror", lambda error: wrong.append(str(error)))
        page.on("request", lambda request: asked.append(request.url))
        page.goto(address)
        page.wait_for_selector(".card img")
        own = address.partition("#")[0]
        page.own = (own,)
        return page

    yield open_page
    own = {page.own[0] for context in contexts for page in context.pages}
    for context in contexts:
        context.close()
    assert wrong == []
    assert [url for url in asked if not url.startswith(("data:", *own))] == []
