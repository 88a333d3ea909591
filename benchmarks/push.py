"""How much memory, disk and time a push takes, by the number and size of its shards; a Hub on loopback receives them.

Usage: python benchmarks/push.py [--largest GB] [--work FOLDER]

The command runs in a process of its own; its peak resident memory is what the kernel counted. Pixels are noise, which
PNG cannot compress: the worst case per image.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from tests.hub.datasets import write_dataset  # noqa: E402
from tests.hub.server import serve  # noqa: E402

SAMPLE_BYTES = 2 * 3 * 512 * 512
CASES = ((1, 20), (10, 20), (50, 20), (2, 500))
"""Shards, and megabytes of each."""
COMMAND = """
import resource, sys
from changen_cli.cli.app import app
try:
    app(sys.argv[1:])
except SystemExit as done:
    print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
    sys.exit(done.code)
"""


class DiskWatch(threading.Thread):
    """Most bytes that lay in a folder."""

    def __init__(self, folder: Path) -> None:
        super().__init__(daemon=True)
        self.folder, self.most, self.stop = folder, 0, threading.Event()

    def run(self) -> None:
        """Look twenty times a second."""
        while not self.stop.wait(0.05):
            try:
                self.most = max(self.most, sum(path.stat().st_size for path in self.folder.glob("building-*/*")))
            except OSError:
                continue  # deleted between listing and looking


def measure(out: Path, megabytes: int, work: Path) -> tuple[int, float, float, float]:
    """Push once; return shards received, seconds, peak memory and peak disk, both in MB."""
    with serve(work / "hub", keep=False) as (url, hub):
        env = os.environ | {
            "HF_ENDPOINT": url, "HF_TOKEN": "hf_writer", "HF_HOME": str(work / "home"), "PYTHONPATH": str(ROOT),
            "HF_HUB_DISABLE_TELEMETRY": "1",
        }  # fmt: skip
        watch = DiskWatch(out / ".push")
        watch.start()
        started = time.perf_counter()
        arguments = ["push-to-hub", str(out), "--repo-id", "org/noise", "--shard-size", f"{megabytes}MB", "--quiet"]
        done = subprocess.run(
            [sys.executable, "-c", COMMAND, *arguments], env=env, capture_output=True, text=True, check=False
        )
        seconds = time.perf_counter() - started
        watch.stop.set()
        if done.returncode:
            sys.exit(done.stderr)
        received = sum(path.endswith(".parquet") for path in hub.repos["dataset", "org/noise"].tree())
        return received, seconds, int(done.stdout.split()[-1]) / 1024, watch.most / 1e6


def main() -> None:
    """Print one row a case."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--largest", type=float, default=1.0, help="Leave out cases of more gigabytes.")
    parser.add_argument("--work", type=Path, default=None)
    given = parser.parse_args()
    print("| dataset | shards | peak memory | disk beside the dataset | time |")
    print("| ---: | ---: | ---: | ---: | ---: |")
    for shards, megabytes in CASES:
        if shards * megabytes > given.largest * 1000:
            continue
        with tempfile.TemporaryDirectory(dir=given.work) as folder:
            work = Path(folder)
            count = int(shards * (megabytes * 1_000_000 // (SAMPLE_BYTES * 1.01)))
            out = write_dataset(work / "out", count, side=512)
            received, seconds, memory, disk = measure(out, megabytes, work)
            size = f"{count * SAMPLE_BYTES / 1e6:.0f} MB"
            print(
                f"| {size} | {received} of {megabytes} MB | {memory:.0f} MB | {disk:.0f} MB | {seconds:.1f} s |",
                flush=True,
            )


if __name__ == "__main__":
    main()
