# SPDX-License-Identifier: Apache-2.0
"""The web certificate of a site: the operator's own, else a self-signed one, made anew when its address has changed."""

import datetime
import ipaddress
import os
import socket
from pathlib import Path

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

CERTIFICATE_FILE = "web.crt"
KEY_FILE = "web.key"
#: Browsers refuse server certificates that live longer than 825 days.
_VALID_DAYS = 820
_RENEW_BEFORE = datetime.timedelta(days=30)
_NAME_PREFIX = "Prism DR "


class CertificateError(Exception):
    """A certificate that cannot be used; the message says why."""


def ensure_web_certificate(folder: Path, *, site_name: str, listen: str) -> None:
    """Leave a certificate in `folder` that names `listen` and is not about to end; keep the one that already does.

    One of an authority is kept whatever it names: it is the operator's, and the doctor says when it ends.
    """
    names = _names(listen)
    current = folder / CERTIFICATE_FILE
    if current.exists() and (folder / KEY_FILE).exists() and _of_operator(current):
        return
    if current.exists() and (folder / KEY_FILE).exists() and _still_good(current, names):
        return
    key = ec.generate_private_key(ec.SECP256R1())
    certificate = _sign(key, site_name, names)
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    _write(folder / KEY_FILE, private)
    _write(current, certificate.public_bytes(serialization.Encoding.PEM))


def install_web_certificate(folder: Path, chain: bytes, key: bytes) -> x509.Certificate:
    """Take an operator's certificate (PEM, the site's first, then those above it) with its key; returns the site's.

    Raises `CertificateError` and changes nothing when they do not fit, are not valid now, or have a password.
    """
    try:
        found = x509.load_pem_x509_certificates(chain)[0]
    except ValueError as error:
        raise CertificateError("The certificate is not PEM.") from error
    if not belongs(found, key):
        raise CertificateError("The key is not that of the first certificate, or it has a password.")
    if not found.not_valid_before_utc <= datetime.datetime.now(datetime.UTC) <= found.not_valid_after_utc:
        raise CertificateError(
            f"The certificate is valid from {found.not_valid_before_utc} to {found.not_valid_after_utc}, not now."
        )
    if _made_here(found):
        raise CertificateError("This certificate was made by a Prism DR site for itself.")
    # The key first: a crash between the two is seen by the doctor, and the next start makes both anew.
    _write(folder / KEY_FILE, key)
    _write(folder / CERTIFICATE_FILE, chain)
    return found


def belongs(certificate: x509.Certificate, key: bytes) -> bool:
    """Whether `key` (PEM, no password) is the certificate's; False for what cannot be read as a key."""
    try:
        private = serialization.load_pem_private_key(key, None)
    except (ValueError, TypeError, UnsupportedAlgorithm):
        return False
    form = (serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)
    return private.public_key().public_bytes(*form) == certificate.public_key().public_bytes(*form)


def _made_here(certificate: x509.Certificate) -> bool:
    names = certificate.subject.get_attributes_for_oid(NameOID.COMMON_NAME)
    own = bool(names) and str(names[0].value).startswith(_NAME_PREFIX)
    return own and certificate.issuer == certificate.subject


def _of_operator(path: Path) -> bool:
    try:
        return not _made_here(x509.load_pem_x509_certificate(path.read_bytes()))
    except ValueError:
        return False


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
    if not belongs(certificate, path.with_name(KEY_FILE).read_bytes()):
        return False  # a crash between writing the two
    left = certificate.not_valid_after_utc - datetime.datetime.now(datetime.UTC)
    return present == names and left > _RENEW_BEFORE


def _sign(key: ec.EllipticCurvePrivateKey, site_name: str, names: list[x509.GeneralName]) -> x509.Certificate:
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, f"{_NAME_PREFIX}{site_name}")])
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
