# SPDX-License-Identifier: Apache-2.0
"""Who a site is towards another: one ECDSA P-256 key, one self-signed certificate, and the set of certificates it
trusts.

There is no certificate authority. A peer is trusted because its very certificate is pinned: OpenSSL proves in the
handshake that the other end holds the key, and afterwards the presented DER bytes are looked up among the pins. Both
must succeed before the first application byte is read or sent. The subject name is for people; nothing is decided by
it.
"""

from __future__ import annotations

import datetime
import hashlib
import os
import ssl
import threading
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from stargate.errors import AlreadyExists, InvalidArgument, PeerRefused

CERTIFICATE_FILE = "site.crt"
KEY_FILE = "site.key"

CERTIFICATE_BYTES_MAX = 16 * 1024
"""Longest PEM accepted from outside; ours have about 700 bytes."""

COMMON_NAME_CHARS_MAX = 64
_VALID_DAYS = 20 * 365
_BACKDATE = datetime.timedelta(days=2)


@dataclass(frozen=True, slots=True)
class Identity:
    """A site's own certificate and the path of its key (the key itself is read by OpenSSL only)."""

    certificate_pem: str
    certificate_path: Path
    key_path: Path

    @property
    def fingerprint(self) -> str:
        return fingerprint(self.certificate_pem)


@dataclass(frozen=True, slots=True)
class Peer:
    """A paired site: its uuid and the one certificate it may present."""

    site_id: str
    certificate_pem: str


def create_identity(folder: str | os.PathLike[str], common_name: str) -> Identity:
    """Make key (mode 0600) and certificate in `folder`; raises AlreadyExists rather than replace a key that peers have
    pinned.
    """
    target = Path(folder)
    target.mkdir(mode=0o700, parents=True, exist_ok=True)
    if (target / KEY_FILE).exists() or (target / CERTIFICATE_FILE).exists():
        raise AlreadyExists("this site already has an identity; its peers have pinned it", str(target))
    key = ec.generate_private_key(ec.SECP256R1())
    certificate = _self_signed(key, common_name)
    write_private(
        target / KEY_FILE,
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()),
    )
    write_private(target / CERTIFICATE_FILE, certificate.public_bytes(serialization.Encoding.PEM))
    sync_folder(target)
    return load_identity(target)


def load_identity(folder: str | os.PathLike[str]) -> Identity:
    """The identity that `create_identity` left in `folder`; raises OSError when there is none."""
    target = Path(folder)
    pem = (target / CERTIFICATE_FILE).read_text(encoding="ascii")
    certificate_der(pem)
    return Identity(pem, target / CERTIFICATE_FILE, target / KEY_FILE)


def _self_signed(key: ec.EllipticCurvePrivateKey, common_name: str) -> x509.Certificate:
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common_name[:COMMON_NAME_CHARS_MAX])])
    now = datetime.datetime.now(datetime.UTC)
    usage = x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH])
    return (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - _BACKDATE)
        .not_valid_after(now + datetime.timedelta(days=_VALID_DAYS))
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(usage, critical=False)
        .sign(key, hashes.SHA256())
    )


def write_private(path: Path, data: bytes) -> None:
    """A new file (FileExistsError when there is one) of mode 0600, durable but for its folder's entry."""
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    with os.fdopen(fd, "wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())


def sync_folder(folder: Path) -> None:
    """Makes the folder's entries durable."""
    fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def certificate_der(certificate_pem: str) -> bytes:
    """DER of exactly one well-formed certificate; raises InvalidArgument for anything else (the text may come from a
    peer).
    """
    if len(certificate_pem) > CERTIFICATE_BYTES_MAX:
        raise InvalidArgument("the certificate is too long to be a site's")
    try:
        found = x509.load_pem_x509_certificates(certificate_pem.encode("ascii"))
    except ValueError as exc:
        raise InvalidArgument("this is not a site certificate in PEM form", str(exc)) from exc
    if len(found) != 1:
        raise InvalidArgument("a site has exactly one certificate", f"{len(found)} found")
    return found[0].public_bytes(serialization.Encoding.DER)


def fingerprint(certificate_pem: str) -> str:
    """SHA-256 of the DER certificate as 32 upper-case hex bytes with colons: what both operators compare."""
    digest = hashlib.sha256(certificate_der(certificate_pem)).hexdigest().upper()
    return ":".join(digest[i : i + 2] for i in range(0, len(digest), 2))


class PeerSet:
    """The paired sites, replaceable while connections run. Thread-safe; a context in use keeps the set it was made
    with, which is why `identify` asks the present set again after each handshake and the server before each request.
    """

    def __init__(self, peers: Iterable[Peer] = ()) -> None:
        self._lock = threading.Lock()
        self._by_der: dict[bytes, str] = {}
        self._pem_of: dict[str, str] = {}
        self.replace(peers)

    def replace(self, peers: Iterable[Peer]) -> None:
        """Trust exactly these from now on; raises InvalidArgument (and changes nothing) for a bad or shared
        certificate.
        """
        by_der: dict[bytes, str] = {}
        pem_of: dict[str, str] = {}
        for peer in peers:
            der = certificate_der(peer.certificate_pem)
            if der in by_der or peer.site_id in pem_of:
                raise InvalidArgument("two peers share a site id or a certificate", peer.site_id)
            by_der[der] = peer.site_id
            pem_of[peer.site_id] = peer.certificate_pem
        with self._lock:
            self._by_der, self._pem_of = by_der, pem_of

    def site_of(self, der: bytes) -> str | None:
        """The paired site whose certificate this is, None when nobody's."""
        with self._lock:
            return self._by_der.get(der)

    def pem_of(self, site_id: str) -> str | None:
        """The pinned certificate of a site, None when it is not paired."""
        with self._lock:
            return self._pem_of.get(site_id)

    def pems(self) -> list[str]:
        with self._lock:
            return list(self._pem_of.values())


def server_context(identity: Identity, peers: PeerSet) -> ssl.SSLContext:
    """TLS 1.3 that demands a client certificate out of `peers` as they are now; call again after a change."""
    context = _context(ssl.PROTOCOL_TLS_SERVER, identity, peers.pems())
    context.num_tickets = 0  # no resumption: every connection proves its key, also right after an unpairing
    return context


class ServerContexts:
    """`server_context` of the peers as they are now, made anew only when they change: making one takes twice the CPU
    of a whole handshake, and any stranger who connects would cost it. Thread-safe.
    """

    def __init__(self, identity: Identity, peers: PeerSet) -> None:
        self._identity = identity
        self._peers = peers
        self._lock = threading.Lock()
        self._made: tuple[list[str], ssl.SSLContext] | None = None

    def get(self) -> ssl.SSLContext:
        with self._lock:
            pems = self._peers.pems()
            if self._made is None or self._made[0] != pems:
                self._made = pems, server_context(self._identity, self._peers)
            return self._made[1]


def client_context(identity: Identity, peers: PeerSet, site_id: str) -> ssl.SSLContext:
    """TLS 1.3 towards one paired site, trusting its certificate only; raises PeerRefused when it is not paired."""
    pem = peers.pem_of(site_id)
    if pem is None:
        raise PeerRefused("this site is not paired with that remote site; pair them first", site_id)
    return _context(ssl.PROTOCOL_TLS_CLIENT, identity, [pem])


def _context(protocol: int, identity: Identity, trusted: list[str]) -> ssl.SSLContext:
    context = ssl.SSLContext(protocol)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    context.check_hostname = False  # the pin says more than a name, and addresses change
    context.verify_mode = ssl.CERT_REQUIRED
    context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN  # an end-entity certificate is its own anchor
    context.options |= ssl.OP_NO_COMPRESSION | ssl.OP_NO_TICKET
    context.load_cert_chain(identity.certificate_path, identity.key_path)
    if trusted:
        context.load_verify_locations(cadata="\n".join(trusted))
    return context


def identify(der: bytes | None, peers: PeerSet) -> tuple[str, bytes]:
    """Site id and DER of the other end, which proved `der` in the handshake (None: nothing); raises PeerRefused unless
    that very certificate is pinned now.
    """
    site_id = peers.site_of(der) if der else None
    if der is None or site_id is None:
        raise PeerRefused("the other end is not a paired site; pair the sites first")
    return site_id, der
