# SPDX-License-Identifier: Apache-2.0
"""`python -m stargate.scrub.probe FOLDER`: reads every entry of an index, in a process of its own.

LMDB trusts its pages: a damaged one can end the process that reads it. Whoever wants to know first asks this one.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from stargate.errors import StargateError
from stargate.extents.index import LmdbIndex


def can_be_read(folder: Path) -> bool:
    """Whether a process that reads all of the index in `folder` lives through it."""
    command = [sys.executable, "-m", "stargate.scrub.probe", str(folder)]
    return subprocess.run(command, capture_output=True, check=False).returncode == 0


def _read(folder: Path) -> int:
    try:
        index = LmdbIndex(folder, read_only=True)
        read = sum(1 for _ in index.items())
        index.freed()
        return 0 if read == index.count() else 1
    except (StargateError, OSError, ValueError) as exc:
        print(exc, file=sys.stderr)
        return 1


if __name__ == "__main__":
    sys.exit(_read(Path(sys.argv[1])))
