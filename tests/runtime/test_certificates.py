# SPDX-License-Identifier: Apache-2.0
"""A certificate of the operator's own: taken when it fits, refused with nothing changed when not, and kept."""

from __future__ import annotations

import datetime
import stat
from io import StringIO
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from django.core.management import CommandError, call_command

from prism.layout import Layout, SiteConfig
from prism.runtime.certificates import ensure_web_certificate

Made = tuple[Layout, SiteConfig]
DAY = datetime.timedelta(days=1)


def issued(*, days: int = 90, password: bytes | None = None) -> tuple[bytes, bytes]:
    """Certificate and key of some authority, PEM."""
    key, authority = ec.generate_private_key(ec.SECP256R1()), ec.generate_private_key(ec.SECP256R1())
    now = datetime.datetime.now(datetime.UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "prism.example")]))
        .issuer_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "Example CA")]))
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - 100 * DAY)
        .not_valid_after(now + days * DAY)
        .sign(authority, hashes.SHA256())
    )
    sealed = serialization.BestAvailableEncryption(password) if password else serialization.NoEncryption()
    text = key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, sealed)
    return made.public_bytes(serialization.Encoding.PEM), text


def install(layout: Layout, folder: Path, chain: bytes, key: bytes) -> str:
    (folder / "c.pem").write_bytes(chain)
    (folder / "k.pem").write_bytes(key)
    out = StringIO()
    names = ["--certificate", str(folder / "c.pem"), "--key", str(folder / "k.pem")]
    call_command("web_certificate", str(layout.data), *names, stdout=out)
    return out.getvalue()


def test_it_takes_the_operators_certificate_and_keeps_it(site: Made, tmp_path: Path) -> None:
    layout, config = site
    ensure_web_certificate(layout.identity, site_name="a", listen=config.listen)
    chain, key = issued(days=3)
    assert "valid until" in install(layout, tmp_path, chain + issued()[0], key)
    ensure_web_certificate(layout.identity, site_name="a", listen="127.0.0.9")  # another address, and it ends soon
    assert (layout.identity / "web.crt").read_bytes().startswith(chain)
    assert (layout.identity / "web.key").read_bytes() == key
    assert stat.S_IMODE((layout.identity / "web.key").stat().st_mode) == 0o600


def test_it_refuses_what_does_not_fit_and_changes_nothing(site: Made, tmp_path: Path) -> None:
    layout, config = site
    ensure_web_certificate(layout.identity, site_name="a", listen=config.listen)
    own = [(layout.identity / name).read_bytes() for name in ("web.crt", "web.key")]
    chain, key = issued()
    for wrong in (
        (chain, issued()[1]),
        issued(days=-1),
        issued(password=b"x"),
        (b"", key),
        (chain, b"x"),
        (own[0], own[1]),
    ):
        with pytest.raises(CommandError, match="Nothing was changed"):
            install(layout, tmp_path, *wrong)
    assert [(layout.identity / name).read_bytes() for name in ("web.crt", "web.key")] == own


def test_it_makes_both_anew_after_a_crash_between_them(site: Made) -> None:
    layout, config = site
    ensure_web_certificate(layout.identity, site_name="a", listen=config.listen)
    (layout.identity / "web.key").write_bytes(issued()[1])
    before = (layout.identity / "web.crt").read_bytes()
    ensure_web_certificate(layout.identity, site_name="a", listen=config.listen)
    assert (layout.identity / "web.crt").read_bytes() != before
