# SPDX-License-Identifier: Apache-2.0
"""The web certificate of a site: self-signed, made anew when the address it must name has changed."""

import datetime
import ipaddress
import os
import socket
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

CERTIFICATE_FILE = "web.crt"
KEY_FILE = "web.key"
#: Browsers refuse server certificates that live longer than 825 days.
_VALID_DAYS = 820
_RENEW_BEFORE = datetime.timedelta(days=30)


def ensure_web_certificate(folder: Path, *, site_name: str, listen: str) -> None:
    """Leave a certificate in `folder` that names `listen` and is not about to end; keep the one that already does."""
    names = _names(listen)
    current = folder / CERTIFICATE_FILE
    if current.exists() and (folder / KEY_FILE).exists() and _still_good(current, names):
        return
    key = ec.generate_private_key(ec.SECP256R1())
    certificate = _sign(key, site_name, names)
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    _write(folder / KEY_FILE, private)
    _write(current, certificate.public_bytes(serialization.Encoding.PEM))


def _names(listen: str) -> list[x509.GeneralName]:
    addresses = {ipaddress.ip_address("127.0.0.1")}
    if listen not in ("0.0.0.0", "::"):
        addresses.add(ipaddress.ip_address(listen))
    hosts = sorted({"localhost", socket.gethostname()})
    return [*(x509.IPAddress(address) for address in sorted(addresses, key=str)), *(x509.DNSName(h) for h in hosts)]


def _still_good(path: Path, names: list[x509.GeneralName]) -> bool:
    try:
        certificate = x509.load_pem_x509_certificate(path.read_bytes())
        present = list(certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value)
    except (ValueError, x509.ExtensionNotFound):
        return False
    left = certificate.not_valid_after_utc - datetime.datetime.now(datetime.UTC)
    return present == names and left > _RENEW_BEFORE


def _sign(key: ec.EllipticCurvePrivateKey, site_name: str, names: list[x509.GeneralName]) -> x509.Certificate:
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, f"Prism DR {site_name}")])
    now = datetime.datetime.now(datetime.UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=_VALID_DAYS))
        .add_extension(x509.SubjectAlternativeName(names), critical=False)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )


def _write(path: Path, content: bytes) -> None:
    """Replace in one step; never readable by others, not even for a moment."""
    fresh = path.with_name(path.name + ".new")
    fresh.unlink(missing_ok=True)
    handle = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        os.write(handle, content)
        os.fsync(handle)
    finally:
        os.close(handle)
    fresh.rename(path)
