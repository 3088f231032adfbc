# SPDX-License-Identifier: Apache-2.0
"""From samples to rows: which way a bar points, which peer counts, what is close."""

from __future__ import annotations

import json
from pathlib import Path

from bench import backup_tools, report
from bench.report import Sample


def samples(row: str, **values: float) -> list[Sample]:
    names = {"ours": "stargate", "qemu": "qemu-nbd", "btrfs": "btrfs send"}
    return [Sample(row, names.get(name, name), value, "x", {}) for name, value in values.items()]


def verdicts(found: list[Sample]) -> dict[tuple[str, str | None], bool | None]:
    return {(row["name"], row["peer"]): row["holds"] for row in report.rows(found)}


def test_more_is_better_for_guests_and_each_peer_has_its_bar() -> None:
    row = "4K random write QD1"
    found = verdicts(samples(row, ours=110.0, qemu=100.0, nbdkit=100.0))
    assert found == {(row, "qemu-nbd"): False, (row, "nbdkit"): True}


def test_less_is_better_for_replication_and_the_fastest_peer_counts() -> None:
    row = "replication, full"
    assert verdicts(samples(row, ours=8.0, restic=20.0, borg=10.0)) == {(row, "borg"): True}
    assert verdicts(samples(row, ours=8.7, restic=20.0, borg=30.0)) == {(row, "Benji (given)"): False}


def test_a_bar_without_peers_judges_our_own_figure() -> None:
    assert verdicts(samples(report.CLONE_ROW, ours=9.0)) == {(report.CLONE_ROW, None): True}
    assert verdicts(samples(report.CLONE_ROW, ours=11.0)) == {(report.CLONE_ROW, None): False}


def test_a_row_without_a_bar_is_only_stated() -> None:
    assert verdicts(samples("index file per TiB of unique data", ours=3.0)) == {
        ("index file per TiB of unique data", None): None
    }


def test_rows_near_their_bar_want_more_rounds() -> None:
    near, far = "4K random write QD1", "1M sequential read"
    found = samples(near, ours=125.0, qemu=100.0) + samples(far, ours=300.0, qemu=100.0)
    assert report.close(found) == {near}


def test_changed_blocks_make_the_second_image_of_the_first(tmp_path: Path) -> None:
    old = bytearray(3 << 20)
    new = bytearray(old)
    new[4096 * 5 : 4096 * 7] = b"\1" * 8192
    new[(1 << 20) - 4096 : (1 << 20) + 4096] = b"\2" * 8192
    first, second = tmp_path / "v1", tmp_path / "v2"
    first.write_bytes(old)
    second.write_bytes(new)
    found = backup_tools.changes(first, second)
    assert [(offset, len(data)) for offset, data in found] == [
        (4096 * 5, 8192),
        ((1 << 20) - 4096, 4096),
        (1 << 20, 4096),
    ]
    for offset, data in found:
        old[offset : offset + len(data)] = data
    assert old == new


def test_it_writes_into_a_folder_that_does_not_exist(tmp_path: Path) -> None:
    report.write(tmp_path / "some" / "folder", samples(report.CLONE_ROW, ours=9.0), "a run")
    assert json.loads((tmp_path / "some" / "folder" / "results.json").read_text())["rows"][0]["holds"] is True
    assert report.CLONE_ROW in (tmp_path / "some" / "folder" / "results.md").read_text()
