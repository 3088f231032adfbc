# SPDX-License-Identifier: Apache-2.0
"""A small run of `make conformance`, and that its harness can fail."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.conformance import __main__ as conformance
from tests.conformance.kit import Bench, Check, Failed, demand, run, run_checks
from tests.support.engine_site import EngineSite


@pytest.mark.workflow
@pytest.mark.foreign("nbdinfo", "nbdcopy", "qemu-img", "qemu-io", "nbdkit", "cmp")
def test_it_passes_a_small_run(capsys: pytest.CaptureFixture[str]) -> None:
    status = conformance.main(["--seed", "1", "--rows", "N1,N2,N11,TLS"])
    shown = capsys.readouterr().out
    assert status == 0, shown
    assert shown.splitlines()[-1] == "conformance: 8 checks, 0 failed"


def _bench(tmp_path: Path) -> Bench:
    return Bench(EngineSite(tmp_path), tmp_path, seed=1, count=1)


def test_it_counts_what_fails_and_goes_on(tmp_path: Path) -> None:
    def broken(bench: Bench) -> None:
        demand(False, "as it should")

    def crashing(bench: Bench) -> None:
        raise ZeroDivisionError("a bug of the check")

    checks = [Check("X", "a", broken), Check("X", "b", crashing), Check("X", "c", lambda bench: None)]
    report = run_checks(checks, _bench(tmp_path))
    assert report.failed == {"X a": "as it should", "X b": "a bug of the check"}
    assert report.passed == ["X c"]


def test_it_skips_by_name_what_cannot_run(tmp_path: Path) -> None:
    report = run_checks([Check("X", "a", lambda bench: None, ("no-such-program",))], _bench(tmp_path))
    assert report.skipped == {"X a": "not installed: no-such-program"}
    assert not report.tried


def test_it_takes_a_wrong_exit_code_for_a_failure() -> None:
    run("true")
    run("false", ok=False)
    with pytest.raises(Failed):
        run("false")
    with pytest.raises(Failed):
        run("true", ok=False)


def test_it_fails_when_nothing_was_tried(capsys: pytest.CaptureFixture[str]) -> None:
    assert conformance.main(["--rows", "no such row"]) == 1
    assert capsys.readouterr().out.splitlines()[-1] == "conformance: 0 checks, 0 failed"
