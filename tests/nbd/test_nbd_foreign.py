# SPDX-License-Identifier: Apache-2.0
"""Clients of other makers against our server, and our client against another maker's server."""

from __future__ import annotations

import io
import json
import random
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
from nbd_kit import MemoryExport, Running, running, until

from stargate.nbd.client import NbdClient
from stargate.nbd.link import NbdRequestFailed
from stargate.units import MiB

pytestmark = pytest.mark.foreign


def run(*command: str, ok: bool = True) -> str:
    """Output of a foreign tool; skips the test if the tool is missing."""
    if shutil.which(command[0]) is None:
        pytest.skip(f"{command[0]} is not installed")
    done = subprocess.run(command, capture_output=True, text=True, timeout=50, check=False)
    assert (done.returncode == 0) is ok, f"{command}: {done.stdout}{done.stderr}"
    return done.stdout


def noise(size: int, seed: int = 1) -> bytes:
    return random.Random(seed).randbytes(size)


def test_nbdinfo_reads_everything(served: Running) -> None:
    (info,) = json.loads(run("nbdinfo", "--no-content", "--json", served.uri))["exports"]
    assert info["export-size"] == 64 * MiB
    assert info["description"] == "test disk disk"
    assert info["contexts"] == ["base:allocation"]
    assert (info["block_size_minimum"], info["block_size_preferred"], info["block_size_maximum"]) == (1, 4096, 32 * MiB)


@pytest.mark.parametrize("what", ["flush", "fua", "trim", "zero", "fast-zero", "df", "multi-conn", "cache", "write"])
def test_nbdinfo_says_we_can(served: Running, what: str) -> None:
    if what == "write":
        run("nbdinfo", "--is", "read-only", served.uri, ok=False)
    else:
        run("nbdinfo", "--can", what, served.uri)


def test_nbdinfo_lists(tmp_path: Path) -> None:
    disks = [MemoryExport(name, MiB) for name in ("one", "two", "drei \u00fc")]
    with running(str(tmp_path / "nbd.sock"), *disks) as served:
        found = json.loads(run("nbdinfo", "--list", "--json", f"nbd+unix:///?socket={served.path}"))
        listed = run("qemu-nbd", "--list", "-k", served.path)
    assert [export["export-name"] for export in found["exports"]] == ["one", "two", "drei \u00fc"]
    assert "exports available: 3" in listed


def test_nbdinfo_maps_what_was_written(served: Running) -> None:
    with NbdClient.unix(served.path, "disk") as client:
        client.write(MiB, noise(2 * MiB))
    found: list[dict[str, Any]] = json.loads(run("nbdinfo", "--map", "--json", served.uri))
    assert [(part["offset"], part["length"], part["type"]) for part in found] == [
        (0, MiB, 3),
        (MiB, 2 * MiB, 0),
        (3 * MiB, 61 * MiB, 3),
    ]


@pytest.mark.parametrize("address", ["unix", "tcp"])
def test_nbdcopy_both_ways(served: Running, disk: MemoryExport, tmp_path: Path, address: str) -> None:
    uri = served.uri if address == "unix" else f"nbd://127.0.0.1:{served.port}/disk"
    source, target = tmp_path / "in.raw", tmp_path / "out.raw"
    source.write_bytes(noise(20 * MiB) + bytes(24 * MiB) + noise(20 * MiB, 2))
    run("nbdcopy", "--flush", str(source), uri)
    assert disk.content == source.read_bytes()
    assert served.exports.durable() == served.exports.position
    run("nbdcopy", "--connections=4", "--requests=64", uri, str(target))
    assert target.read_bytes() == disk.content


def test_nbdcopy_from_export_to_export(tmp_path: Path) -> None:
    disks = [MemoryExport(name, 16 * MiB) for name in ("a", "b")]
    disks[0].content[:] = noise(16 * MiB)
    disks[0].written_blocks.update(range(16 * MiB // 4096))
    with running(str(tmp_path / "nbd.sock"), *disks) as served:
        base = f"?socket={served.path}"
        run("nbdcopy", f"nbd+unix:///a{base}", f"nbd+unix:///b{base}")
    assert disks[1].content == disks[0].content


def test_qemu_img_converts_and_compares(served: Running, disk: MemoryExport, tmp_path: Path) -> None:
    source, target = tmp_path / "in.raw", tmp_path / "out.raw"
    source.write_bytes(noise(10 * MiB) + bytes(44 * MiB) + noise(10 * MiB, 2))
    run("qemu-img", "convert", "-n", "-f", "raw", "-O", "raw", str(source), served.uri)
    assert disk.content == source.read_bytes()
    run("qemu-img", "compare", "-f", "raw", "-F", "raw", served.uri, str(source))
    run("qemu-img", "convert", "-f", "raw", "-O", "raw", served.uri, str(target))
    assert target.read_bytes() == disk.content
    disk.content[5] ^= 1
    run("qemu-img", "compare", "-f", "raw", "-F", "raw", served.uri, str(source), ok=False)


def test_qemu_io_patterns(served: Running, disk: MemoryExport) -> None:
    script = (
        "write -P 0xa5 0 1M",
        "write -f -P 0x5a 512 512",
        "write -z -u 64k 64k",
        "discard 128k 64k",
        "read -P 0xa5 1024 1024",
        "read -P 0x5a 512 512",
        "read -P 0 64k 128k",
        "flush",
    )
    arguments = [part for line in script for part in ("-c", line)]
    assert "Pattern verification failed" not in run("qemu-io", "-f", "raw", served.uri, *arguments)
    assert disk.content[512:1024] == b"\x5a" * 512


@pytest.mark.parametrize("extra", [("--rw=randwrite", "--fsync=64"), ("--rw=randrw", "--bssplit=512/20:4k/60:64k/20")])
def test_fio_verifies(served: Running, tmp_path: Path, extra: tuple[str, str]) -> None:
    output = tmp_path / "fio.json"
    run(
        "fio", "--name=v", "--ioengine=nbd", f"--uri={served.uri}", "--bs=4k", "--size=32M", "--iodepth=16",
        "--verify=crc32c", "--verify_fatal=1", "--serialize_overlap=1",
        "--verify_state_save=0", "--output-format=json", f"--output={output}",
        *extra,
    )  # fmt: skip
    report = output.read_text()
    (job,) = json.loads(report[report.index("{") :])["jobs"]
    assert job["error"] == 0
    assert job["write"]["total_ios"] > 100
    assert job["read"]["total_ios"] >= job["write"]["total_ios"]


def test_qemu_is_refused_with_words(served: Running) -> None:
    if shutil.which("qemu-img") is None:
        pytest.skip("qemu-img is not installed")
    command = ["qemu-img", "info", f"nbd+unix:///nix?socket={served.path}"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=50, check=False)
    assert done.returncode != 0
    assert "there is no export 'nix'" in done.stderr


def test_our_client_against_nbdkit(tmp_path: Path) -> None:
    image = noise(3 * MiB) + bytes(5 * MiB)
    with Nbdkit(tmp_path, "memory", "8M") as path, NbdClient.unix(path, "") as client:
        assert client.copy_in(io.BytesIO(image)) == len(image)
        out = io.BytesIO()
        client.copy_out(out)
        assert out.getvalue() == image
        assert client.block_status(0, 8 * MiB)[0][1] == 0


def test_our_copy_reports_each_lost_block(tmp_path: Path) -> None:
    """A copier that swallows one server error writes a broken image without a word."""
    image = io.BytesIO(noise(2 * MiB))
    broken_writes = Nbdkit(tmp_path, "--filter=error", "memory", "8M", "error-pwrite-rate=100%")
    with broken_writes as path, NbdClient.unix(path, "") as client, pytest.raises(NbdRequestFailed):
        client.copy_in(image)
    broken_reads = Nbdkit(tmp_path, "--filter=error", "memory", "8M", "error-pread-rate=100%")
    with broken_reads as path, NbdClient.unix(path, "") as client:
        client.write(0, b"data")
        with pytest.raises(NbdRequestFailed):
            client.copy_out(io.BytesIO())


class Nbdkit:
    """An nbdkit in the foreground for the length of a `with`; gives the path of its socket."""

    def __init__(self, folder: Path, *arguments: str) -> None:
        if shutil.which("nbdkit") is None:
            pytest.skip("nbdkit is not installed")
        self._path = folder / "nbdkit.sock"
        self._pid = folder / "nbdkit.pid"
        self._command = ["nbdkit", "-f", "-U", str(self._path), "-P", str(self._pid), *arguments]

    def __enter__(self) -> str:
        self._process = subprocess.Popen(self._command)
        until(self._pid.exists)
        return str(self._path)

    def __exit__(self, *_: object) -> None:
        self._process.terminate()
        self._process.wait(20)
        self._path.unlink(missing_ok=True)
        self._pid.unlink(missing_ok=True)
