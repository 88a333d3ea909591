"""The YAML front matter of a dataset card: what the Hub and ``datasets`` read."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import datasets

TAGS = ("remote-sensing", "change-detection", "synthetic-data", "time-series")

_SIZES = ((1_000, "n<1K"), (10_000, "1K<n<10K"), (100_000, "10K<n<100K"), (1_000_000, "100K<n<1M"))


def front_matter(facts: Mapping[str, Any]) -> str:
    """Return the YAML between the dashes; see :func:`changen_cli.writers.card.render_card` for the facts."""
    import yaml

    splits: Mapping[str, int] = facts["splits"]
    total = sum(splits.values())
    head: dict[str, Any] = {
        "pretty_name": facts.get("name", "Synthetic change series"),
        "license": facts.get("license") or "other",
        "task_categories": ["image-segmentation"],
        "task_ids": ["semantic-segmentation"],
        "annotations_creators": ["machine-generated"],
        "source_datasets": ["extended"],
        "tags": list(TAGS),
        "size_categories": [next((name for limit, name in _SIZES if total < limit), "n>1M")],
        "configs": [{"config_name": facts.get("config_name", "default"), "data_files": _data_files(facts)}],
    }
    if facts.get("dataset_info"):
        head["dataset_info"] = facts["dataset_info"]
    # No line wrapping: the Hub's parser and people both read it better.
    return yaml.safe_dump(head, sort_keys=False, allow_unicode=True, width=1_000)


def _data_files(facts: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Which files a split is made of."""
    splits = sorted(facts["splits"])
    if facts["layout"] == "parquet":
        folder = facts.get("data_dir", "data")
        return [{"split": split, "path": f"{folder}/{split}-*.parquet"} for split in splits]
    # The event logs are JSON lines as well; naming the folders keeps them out.
    kinds = (*(("images",) if facts.get("images", True) else ()), "masks", "instances", "changes")
    return [
        {"split": split, "path": [f"{split}/metadata.jsonl", *(f"{split}/{kind}/*" for kind in kinds)]}
        for split in splits
    ]


def dataset_info(shards: Mapping[str, Sequence[Path]], config_name: str = "default") -> dict[str, Any]:
    """Return ``dataset_info`` of Parquet shards, from their footers alone.

    ``num_bytes`` is the size of the columns before compression, ``download_size`` that of the files.

    Args:
        shards: Split → its shards; at least one in all.
        config_name: Name of the configuration; ``default`` is not written.
    """
    import pyarrow.parquet as pq
    from datasets import Features

    splits, download = [], 0
    features: datasets.Features | None = None
    for split, paths in sorted(shards.items()):
        examples = size = 0
        for path in paths:
            footer = pq.read_metadata(path)
            examples += footer.num_rows
            size += sum(footer.row_group(i).total_byte_size for i in range(footer.num_row_groups))
            download += path.stat().st_size
            features = features or Features.from_arrow_schema(footer.schema.to_arrow_schema())
        splits.append((split, size, examples))
    return yaml_info(features, splits, download, config_name)


def yaml_info(
    features: datasets.Features | None,
    splits: Sequence[tuple[str, int, int]],
    download_size: int,
    config_name: str = "default",
) -> dict[str, Any]:
    """Return ``dataset_info`` as plain values.

    Args:
        features: The columns.
        splits: Name, bytes and examples of every split.
        download_size: Bytes of all files.
        config_name: Name of the configuration; ``default`` is not written.
    """
    from datasets import DatasetInfo, SplitDict, SplitInfo
    from datasets.info import DatasetInfosDict
    from huggingface_hub import DatasetCardData

    parts = SplitDict()
    for name, size, examples in splits:
        parts.add(SplitInfo(name=name, num_bytes=size, num_examples=examples))
    info = DatasetInfo(
        features=features, splits=parts, download_size=download_size, dataset_size=sum(size for _, size, _ in splits)
    )
    data = DatasetCardData()
    DatasetInfosDict({config_name: info}).to_dataset_card_data(data)
    found: dict[str, Any] = data["dataset_info"]
    return found
