# SPDX-License-Identifier: Apache-2.0
"""What a conformance check is, what it may use, and how it is run and shown."""

from __future__ import annotations

import os
import random
import shlex
import shutil
import subprocess
import sys
import time
import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from tests.support.engine_site import EngineSite, wait_for

COMMAND_SECONDS = 300


class Failed(Exception):
    """A check found what should not be."""


@dataclass
class Bench:
    """A real engine site and a folder; `seed` decides all that is random, `count` how often loads are repeated."""

    site: EngineSite
    folder: Path
    seed: int
    count: int

    def disk(self, size_bytes: int) -> str:
        """A new disk's export name."""
        name = f"check-{os.urandom(4).hex()}"
        self.site.disk(size_bytes, name)
        return name

    def uri(self, name: str = "") -> str:
        return f"nbd+unix:///{name}?socket={self.site.engine.nbd_socket}"

    def rng(self, salt: str) -> random.Random:
        return random.Random(f"{self.seed} {salt}")

    def file(self, name: str) -> Path:
        path = self.folder / name
        path.unlink(missing_ok=True)
        return path


@dataclass(frozen=True)
class Check:
    """`row` is the row of the list in docs/nbd.md; `needs` are programs, `root` whether it mounts or makes devices."""

    row: str
    name: str
    body: Callable[[Bench], None]
    needs: tuple[str, ...] = ()
    root: bool = False

    def reason_to_skip(self) -> str:
        """ "" when it can run."""
        if self.root and os.geteuid() != 0:
            return "needs root"
        missing = [program for program in self.needs if not shutil.which(program)]
        return f"not installed: {', '.join(missing)}" if missing else ""


def run(*command: object, ok: bool = True, seconds: float = COMMAND_SECONDS) -> str:
    """Shows and runs a command; its output. Raises Failed when it ends otherwise than it should."""
    words = [str(word) for word in command]
    say(f"    $ {shlex.join(words)}")
    try:
        done = subprocess.run(
            words, capture_output=True, text=True, timeout=seconds, check=False, stdin=subprocess.DEVNULL
        )
    except subprocess.TimeoutExpired as error:
        raise Failed(f"{words[0]} did not end within {seconds:.0f} s") from error
    if (done.returncode == 0) is not ok:
        wanted = "" if ok else ", though it should have failed"
        raise Failed(f"{words[0]} ended with {done.returncode}{wanted}: {(done.stdout + done.stderr)[-2000:]}")
    return done.stdout


def start(site: EngineSite) -> EngineSite:
    """A new site: the store first, for on a busy machine it takes longer to make its files than the front waits."""
    site.start_store()
    wait_for((site.folder / "run" / "store.sock").exists, "the store")
    site.start_front()
    site.wait_ready()
    return site


def demand(condition: object, what: str) -> None:
    if not condition:
        raise Failed(what)


def say(line: str) -> None:
    print(line, flush=True)


@dataclass
class Report:
    """`failed` and `skipped`: name -> why."""

    passed: list[str] = field(default_factory=list)
    failed: dict[str, str] = field(default_factory=dict)
    skipped: dict[str, str] = field(default_factory=dict)

    @property
    def tried(self) -> int:
        return len(self.passed) + len(self.failed)


def run_checks(checks: Sequence[Check], bench: Bench) -> Report:
    report = Report()
    for check in checks:
        name = f"{check.row} {check.name}"
        reason = check.reason_to_skip()
        if reason:
            report.skipped[name] = reason
            say(f"SKIP {name}: {reason}")
            continue
        say(f"---- {name}")
        began = time.monotonic()
        try:
            check.body(bench)
        except Exception as error:  # whatever a check dies of is its failure; the others go on
            if not isinstance(error, Failed | AssertionError):
                traceback.print_exc(file=sys.stdout)
            report.failed[name] = str(error) or type(error).__name__
            say(f"FAIL {name}: {report.failed[name]}")
        else:
            report.passed.append(name)
            say(f"PASS {name} ({time.monotonic() - began:.1f} s)")
    return report
