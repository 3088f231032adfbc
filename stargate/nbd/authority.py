# SPDX-License-Identifier: Apache-2.0
"""Who may open disks over a network: the site's NBD authority, its server certificate and the clients it issued.

A client is let in when OpenSSL proved that it holds the key of a certificate of this authority *and* that very
certificate stands, not revoked, in the register. So a stolen authority key alone opens nothing, and a revocation holds
at once, without lists to fetch. Thread-safe.
"""

from __future__ import annotations

import datetime
import hashlib
import ipaddress
import json
import logging
import os
import re
import ssl
import threading
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from stargate.errors import AlreadyExists, InvalidArgument, NotFound, PeerRefused, Unavailable
from stargate.peer.identity import sync_folder, write_private

AUTHORITY_DAYS = 20 * 365
SERVER_DAYS = 5 * 365
RENEW_DAYS = 365
"""The server's certificate is made anew at a start when less than this is left of it."""
CLIENT_DAYS_DEFAULT = 365
CLIENT_DAYS_MAX = 10 * 365
CLIENTS_MAX = 4096
_BACKDATE = datetime.timedelta(days=2)
log = logging.getLogger(__name__)
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")


@dataclass(slots=True)
class Client:
    """A line of the register. Times are Unix seconds; `revoked_at` 0.0 while it is good. `fingerprint`: SHA-256 of the
    DER certificate, hex."""

    name: str
    fingerprint: str
    issued_at: float
    expires_at: float
    revoked_at: float = 0.0

    def good(self, now: float) -> bool:
        return not self.revoked_at and now < self.expires_at


@dataclass(frozen=True, slots=True)
class Issued:
    """What a client needs, as PEM. The key exists nowhere else: it is handed out once."""

    client: Client
    authority_pem: str
    certificate_pem: str
    key_pem: str


class DamagedAuthority(Unavailable):
    """Its key or certificate cannot be read. Nobody replaces it by himself: every client would be shut out for good."""


class Authority:
    """Lives in `folder` (mode 0700), which is made at the first use. `site` is for people who read certificates."""

    def __init__(self, folder: str | os.PathLike[str], site: str) -> None:
        self._folder = Path(folder)
        self._lock = threading.Lock()
        self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        if not (self._folder / "ca.pem").exists():
            self._make_authority(site)
        self._key, self._certificate = _load_authority(self._folder / "ca.pem")
        self._clients = self._load()

    # -- the server's side --------------------------------------------------------------------------------------------

    def server_context(self, names: Sequence[str]) -> ssl.SSLContext:
        """TLS 1.3 that demands a client certificate; `names` are the addresses and host names clients connect to."""
        path = self._server_certificate(sorted(set(names)))
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.minimum_version = ssl.TLSVersion.TLSv1_3
        context.verify_mode = ssl.CERT_REQUIRED
        context.options |= ssl.OP_NO_COMPRESSION | ssl.OP_NO_TICKET
        context.num_tickets = 0  # no resumption: every connection proves its key, also right after a revocation
        context.load_cert_chain(path)
        context.load_verify_locations(cadata=self.authority_pem)
        return context

    def admit(self, der: bytes) -> str:
        """The name of the client whose certificate this is. Raises PeerRefused when it is not, or no longer, good."""
        fingerprint = hashlib.sha256(der).hexdigest()
        with self._lock:
            client = self._clients.get(fingerprint)
            if client is None or not client.good(_now()):
                raise PeerRefused("this client certificate is not, or no longer, registered here", fingerprint)
            return client.name

    # -- orders -------------------------------------------------------------------------------------------------------

    def issue(self, name: str, days: int = CLIENT_DAYS_DEFAULT) -> Issued:
        """A new client. Raises AlreadyExists while a good certificate has this name, InvalidArgument."""
        if not isinstance(name, str) or not _NAME.fullmatch(name):
            raise InvalidArgument("a client's name has 1 to 64 letters, digits, dots, hyphens or underscores")
        if not isinstance(days, int) or not 1 <= days <= CLIENT_DAYS_MAX:
            raise InvalidArgument(f"a client certificate is good for 1 to {CLIENT_DAYS_MAX} days")
        key = ec.generate_private_key(ec.SECP256R1())
        certificate = self._sign(key, name, days, ExtendedKeyUsageOID.CLIENT_AUTH, [])
        der = certificate.public_bytes(serialization.Encoding.DER)
        until = certificate.not_valid_after_utc.timestamp()
        client = Client(name, hashlib.sha256(der).hexdigest(), _now(), until)
        with self._lock:
            if any(c.name == name and c.good(_now()) for c in self._clients.values()):
                raise AlreadyExists(f"a good certificate is named {name}; choose another name or revoke that one")
            if len(self._clients) >= CLIENTS_MAX:
                raise InvalidArgument(f"the register holds {CLIENTS_MAX} certificates; see docs/limits.md")
            self._save({**self._clients, client.fingerprint: client})
        return Issued(client, self.authority_pem, _pem(certificate), _key_pem(key).decode("ascii"))

    def revoke(self, name: str) -> Client:
        """No new connection from now on; those that are open are the caller's to end. Raises NotFound."""
        with self._lock:
            found = [c for c in self._clients.values() if c.name == name and not c.revoked_at]
            if not found:
                raise NotFound(f"no certificate that could be revoked is named {name}")
            gone = {c.fingerprint: Client(c.name, c.fingerprint, c.issued_at, c.expires_at, _now()) for c in found}
            self._save({**self._clients, **gone})
            return next(reversed(gone.values()))

    def clients(self) -> list[Client]:
        """All ever issued, oldest first."""
        with self._lock:
            return list(self._clients.values())

    @property
    def authority_pem(self) -> str:
        return _pem(self._certificate)

    # -- files --------------------------------------------------------------------------------------------------------

    def _load(self) -> dict[str, Client]:
        """A damaged register lets nobody in, and is kept aside; those who need no certificate are served."""
        path = self._folder / "clients.json"
        try:
            rows = json.loads(path.read_text(encoding="utf-8"))
            return {row["fingerprint"]: Client(**row) for row in rows}
        except FileNotFoundError:
            return {}
        except (ValueError, TypeError, KeyError):
            kept = path.with_name(f"clients.damaged-{time.time_ns()}")
            path.replace(kept)
            sync_folder(self._folder)
            log.critical(
                "the register of NBD clients is damaged, nobody is let in by certificate; it is kept as %s", kept
            )
            return {}

    def _save(self, clients: dict[str, Client]) -> None:
        data = json.dumps([asdict(client) for client in clients.values()], indent=1).encode()
        _replace(self._folder / "clients.json", data)
        self._clients = clients

    def _make_authority(self, site: str) -> None:
        key = ec.generate_private_key(ec.SECP256R1())
        name = _common_name(f"NBD authority of {site}")
        usage = _key_usage(authority=True)
        builder = _builder(key, name, name, AUTHORITY_DAYS)
        builder = builder.add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        certificate = builder.add_extension(usage, critical=True).sign(key, hashes.SHA256())
        _replace(self._folder / "ca.pem", _key_pem(key) + _pem(certificate).encode())

    def _server_certificate(self, names: list[str]) -> Path:
        """The file with the server's key and certificate, made anew when it does not fit or soon ends."""
        path = self._folder / "server.pem"
        if path.exists() and self._fits(path, names):
            return path
        key = ec.generate_private_key(ec.SECP256R1())
        certificate = self._sign(key, "NBD server", SERVER_DAYS, ExtendedKeyUsageOID.SERVER_AUTH, names)
        _replace(path, _key_pem(key) + _pem(certificate).encode())
        return path

    def _fits(self, path: Path, names: list[str]) -> bool:
        """Whether key and certificate are whole, of this authority, for these names, and good for long."""
        try:
            certificate = x509.load_pem_x509_certificate(path.read_bytes())
            certificate.verify_directly_issued_by(self._certificate)
            if _load_key(path).public_key() != certificate.public_key():
                return False
        except (ValueError, TypeError, InvalidSignature, UnsupportedAlgorithm, InvalidArgument) as exc:
            log.warning("the NBD server's certificate in %s is made anew: %s", path, exc)
            return False
        left = certificate.not_valid_after_utc - datetime.datetime.now(datetime.UTC)
        return left.days >= RENEW_DAYS and _names_of(certificate) == names

    def _sign(
        self, key: ec.EllipticCurvePrivateKey, name: str, days: int, purpose: x509.ObjectIdentifier, names: list[str]
    ) -> x509.Certificate:
        builder = _builder(key, _common_name(name), self._certificate.subject, days)
        builder = builder.add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        builder = builder.add_extension(_key_usage(authority=False), critical=True)
        builder = builder.add_extension(x509.ExtendedKeyUsage([purpose]), critical=False)
        if names:
            builder = builder.add_extension(x509.SubjectAlternativeName([_general(n) for n in names]), critical=False)
        return builder.sign(self._key, hashes.SHA256())


def _now() -> float:
    return datetime.datetime.now(datetime.UTC).timestamp()


def _common_name(text: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text[:64])])


def _builder(
    key: ec.EllipticCurvePrivateKey, subject: x509.Name, issuer: x509.Name, days: int
) -> x509.CertificateBuilder:
    now = datetime.datetime.now(datetime.UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - _BACKDATE)
        .not_valid_after(now + datetime.timedelta(days=days))
    )


def _key_usage(*, authority: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not authority,
        key_cert_sign=authority,
        crl_sign=authority,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )


def _general(name: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(name))
    except ValueError:
        return x509.DNSName(name)


def _names_of(certificate: x509.Certificate) -> list[str]:
    try:
        found = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        return []
    return sorted(str(general.value) for general in found)


def _pem(certificate: x509.Certificate) -> str:
    return certificate.public_bytes(serialization.Encoding.PEM).decode("ascii")


def _key_pem(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )


def _load_authority(path: Path) -> tuple[ec.EllipticCurvePrivateKey, x509.Certificate]:
    """Raises DamagedAuthority."""
    try:
        key, certificate = _load_key(path), x509.load_pem_x509_certificate(path.read_bytes())
        if key.public_key() != certificate.public_key():
            raise ValueError("key and certificate do not belong together")
    except (ValueError, TypeError, UnsupportedAlgorithm, InvalidArgument) as exc:
        raise DamagedAuthority(
            f"the NBD authority {path} is damaged: disks are served on this machine's socket only. Put the file back "
            "from a copy; or delete it, then every client needs a new certificate. Then restart the engine",
            str(exc),
        ) from exc
    return key, certificate


def _load_key(path: Path) -> ec.EllipticCurvePrivateKey:
    key = serialization.load_pem_private_key(path.read_bytes(), None)
    if not isinstance(key, ec.EllipticCurvePrivateKey):
        raise InvalidArgument("the NBD authority's key is of another kind than this program makes", str(path))
    return key


def _replace(path: Path, data: bytes) -> None:
    """Atomic and durable: the file is the old one or the new one."""
    draft = path.with_suffix(".new")
    draft.unlink(missing_ok=True)
    write_private(draft, data)
    draft.replace(path)
    sync_folder(path.parent)
