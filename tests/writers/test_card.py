"""The dataset card: front matter the Hub accepts, and the facts a reader needs."""

from __future__ import annotations

import pytest
from huggingface_hub import DatasetCard

from changen_cli.writers.card import render_card, write_card
from changen_cli.writers.card_tables import bars

FACTS = {
    "layout": "folder", "splits": {"val": 200, "train": 1800}, "dates": 3, "name": "Banepa: growth | 2 steps",
    "classes": ["background", "building"], "event_kinds": ["create"], "unchanged": "kept bit for bit.",
    "model": "some/model", "model_license": "CC BY-NC-SA 4.0", "seed": 7, "georeferenced": True,
    "sources": [{"name": "Open imagery", "license": "CC-BY-4.0", "attribution": "(c) someone"}, {"name": "Other"}],
    "figures": {"changed, mean": "4.1 %"}, "preview": "preview.png", "version": "0.1.0",
}  # fmt: skip


def test_front_matter_is_what_the_hub_reads(tmp_path):
    data = DatasetCard.load(write_card(tmp_path, FACTS)).data.to_dict()
    assert data["pretty_name"] == FACTS["name"] and data["license"] == "other"
    assert data["task_categories"] == ["image-segmentation"] and data["size_categories"] == ["1K<n<10K"]
    assert {"remote-sensing", "change-detection", "synthetic-data", "time-series"} <= set(data["tags"])
    (config,) = data["configs"]
    assert [f["split"] for f in config["data_files"]] == ["train", "val"]


@pytest.mark.parametrize(
    ("count", "size"), [(0, "n<1K"), (999, "n<1K"), (1000, "1K<n<10K"), (99_999, "10K<n<100K"), (10**6, "n>1M")]
)
def test_size_category(count, size):
    text = render_card({"layout": "parquet", "splits": {"train": count}, "dates": 2, "license": "cc0-1.0"})
    assert f"- {size}\n" in text and "license: cc0-1.0\n" in text


def test_facts_are_in_the_text():
    text = render_card(FACTS)
    for part in (
        "1,800 in `train`", "3 dates", "object creation", "kept bit for bit", "`some/model`, licence: CC BY-NC-SA 4.0",
        "| Open imagery | CC-BY-4.0 | (c) someone |", "| Other | not stated |  |", "arXiv:2406.17998",
        "_t0.tif", "| 1 | building |", "255 = ignore", "![", "| changed, mean | 4.1 % |", "`change_mask` is the one from",
    ):  # fmt: skip
        assert part in text, part
    assert "object removal" not in text


def test_calendar_dates_are_said_to_be_asked_for():
    assert "**Calendar**: 2018, 2020-06, 2023. These dates were asked for" in render_card(
        FACTS | {"calendar": ("2018", "2020-06", "2023")}
    )
    assert "Calendar" not in render_card(FACTS)


@pytest.mark.parametrize("layout", ["folder", "parquet"])
def test_a_card_of_masks_promises_no_images(layout):
    text = render_card(FACTS | {"layout": layout, "images": False, "model": "", "unchanged": "", "preview": ""})
    for part in ("without images", "`source_path`", "object creation", "`t1_mask`, `t2_mask`, `change_mask`"):
        assert part in text, part
    for part in ("_image", "images/", "`image`", "**Model**", "**Unchanged", "torchange", "conditions the image"):
        assert part not in text, part


def test_missing_sources_are_said():
    text = render_card({"layout": "parquet", "splits": {"train": 1}, "dates": 2})
    assert "Add the images' origin and licence" in text and "None" not in text


def test_the_licence_and_its_reason_are_said():
    text = render_card(FACTS | {"license": "odbl", "license_reason": "The most restrictive licence of a and b."})
    assert "Licence: `odbl`. The most restrictive licence of a and b." in text and "Nobody has said" not in text
    unknown = render_card(
        FACTS | {"license": "other", "license_reason": "Of a nothing is known.", "license_known": False}
    )
    assert "license: other\n" in unknown
    assert "**Nobody has said under which licence this dataset may be used.** Of a nothing is known." in unknown


def test_a_card_of_a_repository_names_it_and_its_configuration():
    where = {"layout": "parquet", "repo_id": "me/city", "config_name": "damage", "data_dir": "damage"}
    text = render_card(FACTS | where)
    assert 'load_dataset("me/city", "damage", split="train")' in text
    assert "config_name: damage\n" in text and "path: damage/train-*.parquet\n" in text
    assert "damage/train-*.parquet  one row per sample" in text


def test_histograms_in_one_word():
    assert bars([0, 1, 8, 4]) == "·▁█▄"
    assert bars([0, 1, 1000]) == "·▁█", "what is there is seen"
    assert bars([]) == "" and bars([0, 0]) == "··"


def test_many_pairs_are_cut_and_said():
    pairs = [{"kind": "transition", "from": f"a{i}", "to": "b", "events": 1, "area_px": i} for i in range(1, 51)]
    kind = {
        "kind": "transition",
        "events": 50,
        "area_px": 1275,
        "smallest_px": 1,
        "largest_px": 50,
        "histogram": [50] + [0] * 5,
    }
    text = render_card(FACTS | {"changes": {"kinds": [kind], "pairs": pairs}})
    assert "| a50 | b | 1 | 50 |" in text and "| a10 |" not in text and "10 rarer ones are not shown." in text


def test_columns_are_explained():
    text = render_card(FACTS | {"columns": [("t1_image", "image"), ("t12_mask", "image"), ("mine", "int64")]})
    assert "| `t1_image` | image | image of date 0 |" in text
    assert "| `t12_mask` | image | semantic mask of date 11 |" in text
    assert "| `mine` | int64 |  |" in text
