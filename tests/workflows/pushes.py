"""What tests of pushes look at."""

from __future__ import annotations

from tests.hub.state import Hub, Repo

ID = "org/series"
SHARD = 60_000
"""Two samples of 64 px and two dates."""


def repo_of(hub: Hub, kind: str = "dataset") -> Repo:
    return hub.repos[kind, ID]


def shards(repo: Repo, revision: str = "main") -> list[str]:
    return [path for path in repo.tree(revision) if path.endswith(".parquet")]
