# SPDX-License-Identifier: Apache-2.0
"""One client alone and two at once: a flush of the only client may be waited for in the loop itself."""

from __future__ import annotations

from pathlib import Path

import pytest
from nbd_kit import MemoryExport, MemoryExports, running, running_with, until

from stargate.errors import LogFrozen
from stargate.nbd.client import NbdClient
from stargate.nbd.link import NbdRequestFailed
from stargate.units import MiB


class AloneExports(MemoryExports):
    """Syncs in the loop's thread while `fast`, and counts."""

    fast = True
    broken = False
    alone = 0
    after = 0

    def sync_alone(self) -> bool:
        if self.broken:
            self._frozen = LogFrozen("the disk failed")
            return True
        if self.fast:
            self.alone += 1
            self._durable = self.position
        return self.fast

    def synced_alone(self) -> None:
        self.after += 1


def test_it_waits_for_the_disk_itself_while_a_client_is_alone(tmp_path: Path) -> None:
    exports = AloneExports(MemoryExport("disk", 4 * MiB), MemoryExport("other", 4 * MiB))
    with running_with(exports, str(tmp_path / "nbd.sock")) as served:
        with NbdClient.unix(served.path, "disk") as client:
            for number in range(3):
                client.write(number * 4096, b"\1" * 4096)
                client.flush()
            until(lambda: exports.after == 3)  # behind the reply
            assert (exports.alone, exports.synced) == (3, 0)
            with NbdClient.unix(served.path, "other") as other:
                client.write(0, b"\2" * 4096)
                client.flush()
                assert other.read(0, 4096) == bytes(4096)
            assert (exports.alone, exports.synced) == (3, 1)
        assert served.server.turns.longest_alone_seconds > 0


def test_it_hands_a_flush_over_when_it_may_not_wait(tmp_path: Path) -> None:
    exports = AloneExports(MemoryExport("disk", 4 * MiB))
    exports.fast = False
    with running_with(exports, str(tmp_path / "nbd.sock")) as served, NbdClient.unix(served.path, "disk") as client:
        client.write(0, b"\1" * 4096)
        client.flush()
        assert (exports.alone, exports.after, exports.synced) == (0, 0, 1)


def test_a_flush_that_fails_in_the_loop_is_an_error_and_so_is_every_later_one(tmp_path: Path) -> None:
    exports = AloneExports(MemoryExport("disk", 4 * MiB))
    with running_with(exports, str(tmp_path / "nbd.sock")) as served, NbdClient.unix(served.path, "disk") as client:
        client.write(0, b"\1" * 4096)
        exports.broken = True
        for _ in range(2):
            with pytest.raises(NbdRequestFailed):
                client.flush()


def test_several_exports_share_one_server(tmp_path: Path) -> None:
    disks = [MemoryExport(name, MiB) for name in ("a", "b")]
    with (
        running(str(tmp_path / "nbd.sock"), *disks) as served,
        NbdClient.unix(served.path, "a") as one,
        NbdClient.unix(served.path, "b") as two,
    ):
        one.write(0, b"one")
        two.write(0, b"two")
        assert one.read(0, 3) == b"one"
    assert disks[1].content[:3] == b"two"
