# SPDX-License-Identifier: Apache-2.0
"""Server and client over real sockets: data, durability, batches, pacing, disconnecting."""

from __future__ import annotations

import io
import random
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from nbd_kit import MemoryExport, Running, running, until

from stargate.errors import AlreadyExists, DamagedData, ExportDown, LogFull
from stargate.nbd import wire
from stargate.nbd.client import NbdClient
from stargate.nbd.link import NbdDisconnected, NbdRefused, NbdRequestFailed
from stargate.nbd.server import NbdServer
from stargate.units import KiB, MiB


@pytest.fixture(params=["tcp structured", "unix simple"])
def client(request: pytest.FixtureRequest, served: Running) -> Iterator[NbdClient]:
    if request.param == "tcp structured":
        made = NbdClient.tcp("127.0.0.1", served.port, "disk")
    else:
        made = NbdClient.unix(served.path, "disk", structured=False)
    with made:
        yield made


def local(served: Running, **options: int) -> NbdClient:
    return NbdClient.unix(served.path, "disk", **options)


def test_it_tells_size_and_flags(client: NbdClient) -> None:
    assert client.size_bytes == 64 * MiB
    assert not client.read_only
    assert client.flags & wire.EXPORT_CAN_MULTI_CONN
    assert client.flags & wire.EXPORT_SEND_FAST_ZERO


def test_it_keeps_what_is_written(client: NbdClient, disk: MemoryExport) -> None:
    seed = random.randrange(1 << 32)
    print("seed", seed)
    rng = random.Random(seed)
    model = bytearray(disk.size_bytes)
    for _ in range(200):
        length = rng.choice([1, 511, 4096, 10_000, 300 * KiB, 600 * KiB, 3 * MiB])
        offset = rng.randrange(disk.size_bytes - length)
        if rng.random() < 0.2:
            client.write_zeroes(offset, length, no_hole=rng.random() < 0.5, fast=rng.random() < 0.5)
            model[offset : offset + length] = bytes(length)
        else:
            data = rng.randbytes(length)
            client.write(offset, data, fua=rng.random() < 0.2)
            model[offset : offset + length] = data
        start = max(0, offset - 100)
        assert client.read(start, length) == model[start : start + length]
    assert disk.content == model


def test_the_largest_requests_pass(client: NbdClient, disk: MemoryExport) -> None:
    data = random.Random(1).randbytes(32 * MiB)
    client.write(4097, data)
    assert client.read(4097, 32 * MiB) == data
    assert max(disk.staged_lengths) <= 512 * KiB


def test_too_large_requests_leave_the_connection_usable(client: NbdClient, disk: MemoryExport) -> None:
    with pytest.raises(NbdRequestFailed) as failure:
        client.write(0, bytes(32 * MiB + 1))
    assert failure.value.errno == wire.EINVAL
    assert disk.staged_lengths == []
    client.write(0, b"after")
    assert client.read(0, 5) == b"after"


def test_many_writes_share_a_commit(served: Running) -> None:
    with local(served, depth=256) as client:
        cookies = [client.submit_write(at * 4096, b"x" * 4096) for at in range(2000)]
        for cookie in cookies:
            client.wait(cookie)
    assert served.exports.commits < 2000
    assert served.exports.position == 2000


def test_a_flush_waits_for_durability(served: Running) -> None:
    served.exports.hold(True)
    with local(served) as client:
        client.write(0, b"data")
        flush = client.submit(wire.CMD_FLUSH, 0, 0)
        client.write(8, b"more")  # answered although the flush is not
        assert not client.done(flush)
        served.exports.hold(False)
        client.wait(flush)
    assert served.exports.durable() >= 1


def test_fua_waits_and_plain_writes_do_not(served: Running) -> None:
    served.exports.hold(True)
    with local(served) as client:
        fua = [client.submit_write(0, b"d" * 4096, fua=True), client.submit_write(0, bytes(1 * MiB), fua=True)]
        zero = client.submit(wire.CMD_WRITE_ZEROES, 0, 4096, wire.CMD_FLAG_FUA)
        client.write(8192, b"plain")
        assert not any(client.done(cookie) for cookie in [*fua, zero])
        served.exports.hold(False)
        for cookie in [*fua, zero]:
            client.wait(cookie)


def test_a_flush_covers_other_connections(served: Running) -> None:
    with local(served) as writer, local(served) as flusher:
        writer.write(0, b"data")
        assert served.exports.durable() == 0
        flusher.flush()
    assert served.exports.durable() >= 1


def test_a_flush_with_nothing_new_needs_no_sync(served: Running) -> None:
    with local(served) as client:
        client.write(0, b"data", fua=True)
        synced = served.exports.synced
        client.flush()
        assert served.exports.synced == synced


def test_a_frozen_log_fails_waiting_and_later_flushes(served: Running) -> None:
    served.exports.hold(True)
    with local(served) as client:
        client.write(0, b"data")
        flush = client.submit(wire.CMD_FLUSH, 0, 0)
        client.read(0, 1)
        served.exports.freeze()
        for cookie in (flush, client.submit(wire.CMD_FLUSH, 0, 0)):
            with pytest.raises(NbdRequestFailed) as failure:
                client.wait(cookie)
            assert failure.value.errno == wire.EIO


def test_a_failed_commit_fails_each_write_of_it(served: Running, disk: MemoryExport) -> None:
    with local(served) as client:
        served.exports.commit_error = LogFull("the log is full")
        for data in (b"x" * 4096, b"x" * 2 * MiB):
            with pytest.raises(NbdRequestFailed) as failure:
                client.write(0, data)
            assert failure.value.errno == wire.ENOSPC
        served.exports.commit_error = None
        assert client.read(0, 4096) == bytes(4096)
        client.write(0, b"space again")


@pytest.mark.parametrize("fua", [False, True])
def test_a_large_write_fails_when_any_piece_of_it_did(served: Running, fua: bool) -> None:
    with local(served) as client:
        served.exports.commit_error = LogFull("the log is full")
        served.exports.commit_error_once = True
        with pytest.raises(NbdRequestFailed) as failure:
            client.write(0, b"x" * 8 * MiB, fua=fua)
        assert failure.value.errno == wire.ENOSPC
        assert served.exports.commit_error is None
        client.write(0, b"x" * 8 * MiB, fua=fua)


@pytest.mark.parametrize("error", [ExportDown("fenced"), ValueError("a bug")])
def test_a_refused_write_fails_alone(served: Running, disk: MemoryExport, error: Exception) -> None:
    with local(served) as client:
        disk.write_error = error
        for data in (b"x", b"x" * MiB):
            with pytest.raises(NbdRequestFailed):
                client.write(0, data)
        disk.write_error = None
        client.write(0, b"fine")


def test_damage_is_an_io_error(client: NbdClient, disk: MemoryExport) -> None:
    disk.read_error = DamagedData("bad block")
    with pytest.raises(NbdRequestFailed) as failure:
        client.read(0, 4096)
    assert failure.value.errno == wire.EIO
    disk.read_error = None
    assert client.read(0, 4096) == bytes(4096)


def test_a_read_only_export_refuses_writes(served: Running, disk: MemoryExport) -> None:
    disk.read_only = True
    with local(served) as client:
        assert client.read_only
        for act in (lambda: client.write(0, b"x"), lambda: client.trim(0, 4096)):
            with pytest.raises(NbdRequestFailed) as failure:
                act()
            assert failure.value.errno == wire.EPERM


def test_block_status_tells_data_from_holes(served: Running) -> None:
    with local(served) as client:
        client.write(8192, b"x" * 4096)
        assert client.block_status(0, 64 * MiB) == [(8192, 3), (4096, 0), (64 * MiB - 12288, 3)]
        assert client.block_status(0, 64 * MiB, one=True) == [(8192, 3)]
        client.trim(8192, 4096)
        assert client.block_status(0, 64 * MiB) == [(64 * MiB, 3)]


def test_reads_in_flight_beyond_the_backlog_all_arrive(served: Running, disk: MemoryExport) -> None:
    disk.content[:] = random.Random(2).randbytes(1 * MiB) * 64
    with local(served, depth=400) as client:
        cookies = [client.submit_read(at * 131072, MiB) for at in range(400)]
        for at, cookie in enumerate(cookies):
            assert client.wait(cookie) == disk.content[at * 131072 : at * 131072 + MiB]


def test_images_go_in_and_out(served: Running, disk: MemoryExport, tmp_path: Path) -> None:
    image = random.Random(3).randbytes(5 * MiB + 777) + bytes(9 * MiB) + b"end"
    steps: list[int] = []
    with local(served) as client:
        assert client.copy_in(io.BytesIO(image), progress=steps.append) == len(image)
        assert steps[-1] == len(image)
        assert served.exports.durable() > 0
        whole, thin = io.BytesIO(), tmp_path / "thin.raw"
        client.copy_out(whole)
        with thin.open("wb") as file:
            client.copy_out(file, sparse=True)
    expected = image + bytes(disk.size_bytes - len(image))
    assert whole.getvalue() == expected
    assert thin.read_bytes() == expected
    assert thin.stat().st_blocks * 512 < len(image)


def test_an_image_that_does_not_fit_is_refused(served: Running) -> None:
    with local(served) as client, pytest.raises(NbdRequestFailed) as failure:
        client.copy_in(io.BytesIO(b"x" * (64 * MiB + 1)))
    assert failure.value.errno == wire.ENOSPC


def test_an_unknown_export_is_refused_with_words(served: Running) -> None:
    with pytest.raises(NbdRefused, match="there is no export 'nix'"):
        NbdClient.unix(served.path, "nix")


def test_pacing_delays_and_loses_nothing(served: Running, disk: MemoryExport) -> None:
    disk.delay = 0.01
    with local(served) as client:
        for at in range(20):
            client.write(at, bytes([at]))
        assert client.read(0, 20) == bytes(range(20))


def test_connections_are_counted_and_closed(served: Running) -> None:
    client = local(served)
    client.write(0, b"x" * 100)
    client.read(0, 50)
    (info,) = served.exports.open_now
    assert (info.export_name, info.writes, info.written_bytes, info.read_bytes) == ("disk", 1, 100, 50)
    assert info.peer.startswith("local pid")
    client.close()
    until(lambda: not served.exports.open_now)


def test_disconnect_answers_what_waits_and_then_closes(served: Running) -> None:
    served.exports.hold(True)
    client, other = local(served), local(served)
    flush = [client.submit_write(0, b"x", fua=True)]
    client.read(0, 1)
    number = served.exports.open_now[0].number
    gone = served.server.disconnect(lambda info: info.number == number, after_flush=True)
    served.in_loop()
    assert not gone.done()
    served.exports.hold(False)
    assert gone.result(10) == 1
    client.wait(flush[0])
    with pytest.raises(NbdDisconnected):
        client.read(0, 1)
    other.write(0, b"still here")
    other.close()


def test_disconnect_without_flush_closes_at_once(served: Running) -> None:
    served.exports.hold(True)
    client = local(served)
    flush = client.submit_write(0, b"x", fua=True)
    client.read(0, 1)
    assert served.server.disconnect("disk", after_flush=False).result(10) == 1
    with pytest.raises(NbdDisconnected):
        client.wait(flush)


def test_nothing_is_staged_after_a_fence(served: Running, disk: MemoryExport) -> None:
    """Writers at full speed; what the fence sees committed is what there is for ever."""
    seen: list[int] = []

    def fence() -> None:
        served.exports.lookup_error = ExportDown("fenced")
        served.server.disconnect("disk", after_flush=True)
        seen.append(served.exports.position)

    acknowledged = [0, 0, 0]
    threads = [threading.Thread(target=_hammer, args=(served, acknowledged, at)) for at in range(3)]
    for thread in threads:
        thread.start()
    until(lambda: min(acknowledged) > 100)
    served.server.call_soon(fence)
    for thread in threads:
        thread.join(20)
    served.in_loop()
    assert served.exports.position == seen[0]
    assert sum(acknowledged) <= seen[0]


def _hammer(served: Running, acknowledged: list[int], at: int) -> None:
    client = local(served, depth=8)
    pending: list[int] = []
    try:
        while True:
            pending.append(client.submit_write(at * 4096, b"x" * 4096))
            if len(pending) == 8:
                client.wait(pending.pop(0))
                acknowledged[at] += 1
    except NbdDisconnected:
        client.abandon()


def test_calls_run_in_the_loop_and_survive_errors(served: Running) -> None:
    where: list[int | None] = []

    def fail() -> None:
        where.append(threading.get_ident())
        raise ValueError("a bug in a call")

    served.server.call_soon(fail)
    served.in_loop()
    assert where == [served.thread.ident]


def test_a_second_server_does_not_take_a_living_socket(served: Running) -> None:
    second = NbdServer(served.exports)
    with pytest.raises(AlreadyExists):
        second.listen_unix(served.path)
    with pytest.raises(AlreadyExists):
        second.listen_tcp("127.0.0.1", served.port)


def test_a_dead_servers_socket_file_is_replaced(disk: MemoryExport, tmp_path: Path) -> None:
    path = tmp_path / "nbd.sock"
    with running(str(path), disk):
        path.rename(tmp_path / "kept")
    (tmp_path / "kept").rename(path)
    with running(str(path), disk) as again:
        local(again).close()
    assert not path.exists()


def test_stop_answers_what_is_in_flight(disk: MemoryExport, tmp_path: Path) -> None:
    with running(str(tmp_path / "nbd.sock"), disk) as served:
        served.exports.hold(True)
        client = local(served)
        flush = client.submit_write(0, b"x", fua=True)
        client.read(0, 1)
        served.server.stop()
        served.exports.hold(False)
        client.wait(flush)
        served.thread.join(10)
        assert not served.thread.is_alive()
        client.abandon()
