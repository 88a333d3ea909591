"""Try the parsers of what others wrote with new inputs, round after round, until the time is up or one fails.

    python tools/fuzz.py [MINUTES] [PYTEST ARGUMENTS]

Each round has a seed of its own, which is printed; a failure prints the input, and a line that repeats it.
"""

from __future__ import annotations

import os
import secrets
import subprocess
import sys
import time
from itertools import count
from pathlib import Path

ROOT = Path(__file__).parents[1]


def main(minutes: float = 10.0, *arguments: str) -> int:
    """Run rounds for so many minutes; return the exit code of the last one."""
    ends = time.monotonic() + 60 * minutes
    environment = os.environ | {"HYPOTHESIS_PROFILE": "fuzz"}
    for number in count(1):
        seed = secrets.randbits(32)
        print(f"round {number}, seed {seed}, {max(0, ends - time.monotonic()):.0f} s left", flush=True)
        command = [sys.executable, "-m", "pytest", "-q", "-x", "tests/fuzz", f"--hypothesis-seed={seed}", *arguments]
        # Inputs that failed may hold what pytest-xdist cannot send between processes, so there is only one.
        done = subprocess.run([*command, "-p", "no:xdist"], cwd=ROOT, env=environment, check=False)
        if done.returncode or time.monotonic() > ends:
            return done.returncode
    return 0


if __name__ == "__main__":
    sys.exit(main(*map(float, sys.argv[1:2]), *sys.argv[2:]))
