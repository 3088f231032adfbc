# SPDX-License-Identifier: Apache-2.0
"""The register of NBD clients, clients of other makers over TLS, and our client when it lost the server."""

from __future__ import annotations

import random
import ssl
import subprocess
from pathlib import Path

import pytest
from nbd_kit import MemoryExport, Running, running
from tls_kit import Site

from stargate.errors import AlreadyExists, InvalidArgument, NotFound, PeerRefused
from stargate.nbd import wire
from stargate.nbd.authority import Authority, DamagedAuthority
from stargate.nbd.client import NbdClient
from stargate.nbd.tls import client_context
from stargate.units import MiB

# -- the authority ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("damage", ["zeros", "cut", "empty", "another key"])
def test_a_damaged_authority_is_told_and_kept_as_it_is(tmp_path: Path, damage: str) -> None:
    Authority(tmp_path / "nbd", "a")
    path = tmp_path / "nbd" / "ca.pem"
    whole = path.read_bytes()
    Authority(tmp_path / "other", "a")
    other = (tmp_path / "other" / "ca.pem").read_bytes()
    end = b"-----END PRIVATE KEY-----\n"
    found = {
        "zeros": bytes(len(whole)),
        "cut": whole[: len(whole) // 2],
        "empty": b"",
        "another key": other[: other.index(end)] + whole[whole.index(end) :],
    }[damage]
    path.write_bytes(found)
    with pytest.raises(DamagedAuthority, match="Put the file back"):
        Authority(tmp_path / "nbd", "a")
    assert path.read_bytes() == found
    path.write_bytes(whole)
    assert Authority(tmp_path / "nbd", "a").server_context(["127.0.0.1"])


@pytest.mark.parametrize("damage", ["zeros", "cut", "another authority", "another key"])
def test_a_damaged_certificate_of_the_server_is_made_anew(tmp_path: Path, damage: str) -> None:
    own, other = Authority(tmp_path / "nbd", "a"), Authority(tmp_path / "other", "a")
    for authority in (own, other):
        authority.server_context(["127.0.0.1"])
    path = tmp_path / "nbd" / "server.pem"
    whole, foreign = path.read_bytes(), (tmp_path / "other" / "server.pem").read_bytes()
    end = b"-----END PRIVATE KEY-----\n"
    path.write_bytes(
        {
            "zeros": bytes(len(whole)),
            "cut": whole[: len(whole) // 2],
            "another authority": foreign,
            "another key": foreign[: foreign.index(end)] + whole[whole.index(end) :],
        }[damage]
    )
    own.server_context(["127.0.0.1"])
    made = path.read_bytes()
    assert made not in (whole, foreign)
    own.server_context(["127.0.0.1"])
    assert path.read_bytes() == made, "a good one stays"


def test_the_register_survives_and_refuses_twice_the_same_name(tmp_path: Path) -> None:
    first = Authority(tmp_path / "nbd", "a")
    issued = first.issue("kvm1", 30)
    with pytest.raises(AlreadyExists):
        first.issue("kvm1")
    again = Authority(tmp_path / "nbd", "a")
    assert [c.name for c in again.clients()] == ["kvm1"]
    assert again.admit(ssl.PEM_cert_to_DER_cert(issued.certificate_pem)) == "kvm1"
    again.revoke("kvm1")
    assert [bool(c.revoked_at) for c in Authority(tmp_path / "nbd", "a").clients()] == [True]
    again.issue("kvm1")
    assert {path.stat().st_mode & 0o077 for path in (tmp_path / "nbd").iterdir()} == {0}
    with pytest.raises(NotFound):
        again.revoke("nobody")


@pytest.mark.parametrize("name", ["", "a b", "../x", "x" * 65, "-x", "ü", "a\n"])
def test_strange_client_names_are_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(InvalidArgument):
        Authority(tmp_path, "a").issue(name)


@pytest.mark.parametrize("damage", [b"", b"\xff", b"[{]", b"{}1", b'[{"name": "kvm1"}]', b"[1]", b"1"])
def test_a_damaged_register_lets_nobody_in_and_stops_no_start(tmp_path: Path, damage: bytes) -> None:
    issued = Authority(tmp_path, "a").issue("kvm1")
    (tmp_path / "clients.json").write_bytes(damage)
    again = Authority(tmp_path, "a")
    with pytest.raises(PeerRefused):
        again.admit(ssl.PEM_cert_to_DER_cert(issued.certificate_pem))
    again.issue("kvm1")
    (kept,) = tmp_path.glob("clients.damaged-*")
    assert kept.read_bytes() == damage


def test_no_key_of_a_client_is_kept(tmp_path: Path) -> None:
    issued = Authority(tmp_path, "a").issue("kvm1")
    secret = "".join(issued.key_pem.splitlines()[1:-1])
    assert not any(secret in path.read_text().replace("\n", "") for path in tmp_path.iterdir())


def test_the_servers_certificate_follows_its_names(tmp_path: Path) -> None:
    authority = Authority(tmp_path, "a")
    authority.server_context(["10.0.0.1", "kvm"])
    first = (tmp_path / "server.pem").read_bytes()
    authority.server_context(["kvm", "10.0.0.1"])
    assert (tmp_path / "server.pem").read_bytes() == first
    authority.server_context(["10.0.0.2"])
    assert (tmp_path / "server.pem").read_bytes() != first


# -- clients of other makers ------------------------------------------------------------------------------------------


def tool(*command: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command, capture_output=True, text=True, timeout=50, check=False)


@pytest.mark.foreign("nbdinfo", "nbdcopy")
def test_libnbd_speaks_tls_with_us(secured: Running, site: Site, disk: MemoryExport, tmp_path: Path) -> None:
    folder = site.client()
    uri = f"nbds://127.0.0.1:{secured.port}/disk?tls-certificates={folder}"
    info = tool("nbdinfo", "--no-content", uri)
    assert "with TLS" in info.stdout, info.stderr
    image = tmp_path / "image"
    image.write_bytes(random.Random(1).randbytes(16 * MiB) + bytes(48 * MiB))
    copied = tool("nbdcopy", str(image), uri)
    assert not copied.returncode, copied.stderr
    assert disk.content == image.read_bytes()
    refused = tool("nbdinfo", "--no-content", f"nbd://127.0.0.1:{secured.port}/disk")
    assert refused.returncode


@pytest.mark.foreign("qemu-img")
def test_qemu_speaks_tls_with_us(secured: Running, site: Site, disk: MemoryExport, tmp_path: Path) -> None:
    folder = site.client()
    image = tmp_path / "image"
    image.write_bytes(random.Random(2).randbytes(16 * MiB) + bytes(48 * MiB))
    ours = (
        f"driver=raw,file.driver=nbd,file.host=127.0.0.1,file.port={secured.port},file.export=disk,file.tls-creds=tls0"
    )
    creds = f"tls-creds-x509,id=tls0,dir={folder},endpoint=client"
    done = tool(
        "qemu-img", "convert", "-n", "--object", creds, "--target-image-opts", "-f", "raw", str(image), ours
    )  # fmt: skip
    assert not done.returncode, done.stderr
    assert disk.content == image.read_bytes()


def test_a_client_that_lost_the_server_goes_on_over_tls(site: Site, disk: MemoryExport, tmp_path: Path) -> None:
    """The connection ends while a request waits; it is asked again on the next one."""
    context = client_context(site.client())
    with running(str(tmp_path / "a.sock"), disk, tls=site.policy) as served:
        port = served.port
        client = NbdClient.tcp("127.0.0.1", port, "disk", tls=context, reconnect=30.0)
        client.write(0, b"before")
        served.exports.hold(True)
        waiting = client.submit(wire.CMD_FLUSH, 0, 0)
        served.in_loop()
        killed = served.server.disconnect(lambda info: True, after_flush=False)
        killed.result(10)
        served.exports.hold(False)
        client.wait(waiting)
        assert client.read(0, 6) == b"before"
        client.close()
