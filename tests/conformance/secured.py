# SPDX-License-Identifier: Apache-2.0
"""TLS: an engine that listens on all addresses; clients of other makers with its certificates, and without."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.conformance.kit import Bench, Check, demand, run, start
from tests.conformance.semantics import SIZE, image
from tests.support.engine_site import EngineSite


def certificate(site: EngineSite, name: str, folder: Path) -> Path:
    """A client's folder as libnbd and QEMU want it."""
    folder.mkdir(exist_ok=True)
    issued = site.engine.nbd_client_issue(name)
    for file, key in (("ca-cert", "authority_pem"), ("client-cert", "certificate_pem"), ("client-key", "key_pem")):
        (folder / f"{file}.pem").write_text(issued[key])
    return folder


@contextmanager
def secured(bench: Bench) -> Iterator[EngineSite]:
    """A second engine, which listens everywhere and so takes TLS only."""
    site = EngineSite(bench.folder / "secured", address="0.0.0.0", tcp=True)
    try:
        yield start(site)
    finally:
        site.stop()


def tls(bench: Bench) -> None:
    with secured(bench) as site:
        site.disk(SIZE, "disk")
        folder = certificate(site, "kvm1", bench.folder / "kvm1")
        host = f"127.0.0.1:{site.nbd_port}"
        uri = f"nbds://{host}/disk?tls-certificates={folder}"
        run("nbdinfo", "--no-content", f"nbd://{host}/disk", ok=False)
        run("nbdinfo", "--list", f"nbd://{host}/", ok=False)
        demand("with TLS" in run("nbdinfo", "--no-content", uri), "no TLS")
        source = image(bench, "tls")
        run("nbdcopy", "--connections=4", source, uri)
        creds = f"tls-creds-x509,id=tls0,dir={folder},endpoint=client"
        address = f"file.host=127.0.0.1,file.port={site.nbd_port},file.export=disk"
        options = f"driver=raw,file.driver=nbd,{address},file.tls-creds=tls0"
        back = bench.file("back.raw")
        run("qemu-img", "convert", "--object", creds, "--image-opts", "-O", "raw", options, back)
        run("cmp", source, back)
        steps = ("-c", "write -P 0xa5 0 8M", "-c", "read -P 0xa5 0 8M", "-c", "flush")
        output = run("qemu-io", "--object", creds, "--image-opts", options, *steps)
        demand("Pattern verification failed" not in output, output)
        site.engine.nbd_client_revoke("kvm1")
        run("nbdinfo", "--no-content", uri, ok=False)
        stranger = certificate(bench.site, "stranger", bench.folder / "stranger")
        run("nbdinfo", "--no-content", f"nbds://{host}/disk?tls-certificates={stranger}", ok=False)
        bench.site.engine.nbd_client_revoke("stranger")


CHECKS = [
    Check("TLS", "certificates of ours, required", tls, ("nbdinfo", "nbdcopy", "qemu-img", "qemu-io", "cmp")),
]
