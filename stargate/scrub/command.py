# SPDX-License-Identifier: Apache-2.0
"""`python -m stargate check|repair --data DIR`: exit code 0 all is well, 1 damage was found, 2 it cannot be told."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization

from stargate.errors import StargateError, Unavailable
from stargate.extents.index import Index, LmdbIndex
from stargate.fs.disk import OsDisk
from stargate.peer.identity import CERTIFICATE_FILE, KEY_FILE, load_identity
from stargate.scrub.offline import Problem, check
from stargate.scrub.probe import can_be_read

LOCKS = ("catalog/lock", "egroups.lock", "oplog/lock")


def run(data: Path, *, repair: bool) -> int:
    """Print what is wrong and, with `repair`, what was done about it."""
    folder = data / "stargate"
    if not folder.is_dir():
        print(f"There is no site in {data}.")
        return 2
    disk = OsDisk(folder)
    try:
        with _alone(disk), _index(folder) as index:
            problems = [*check(disk, index), *_identity(data)]
            for problem in problems:
                print(f"{problem.part}: {problem.text}")
                if repair and problem.mend is not None:
                    print(f"  done: {problem.mend()}")
    except Unavailable as exc:
        print(f"The engine runs, or its lock cannot be taken: {exc.message}. A running engine is asked for `scrub`.")
        return 2
    except (StargateError, OSError) as exc:
        print(f"The check cannot go on: {exc}", file=sys.stderr)
        return 2
    _sum_up(problems, repair)
    return 1 if problems else 0


def _sum_up(problems: list[Problem], repair: bool) -> None:
    if not problems:
        print("All is well: every checksum and every hash holds.")
        return
    mended = sum(problem.mend is not None for problem in problems)
    verb = "mended here" if repair else "can be mended here by `repair`"
    print(f"{len(problems)} findings, {mended} of them {verb}. The others need the running store, or are lost.")


@contextmanager
def _alone(disk: OsDisk) -> Iterator[None]:
    """No process of the engine may have the folder open. Raises Unavailable."""
    with ExitStack() as stack:
        for path in LOCKS:
            if disk.exists(path):
                stack.enter_context(closing(disk.lock(path)))
        yield


@contextmanager
def _index(folder: Path) -> Iterator[Index | None]:
    """None: it is missing, or ends whoever reads it."""
    path = folder / "index"
    if not (path / "data.mdb").exists() or not can_be_read(path):
        yield None
        return
    with closing(LmdbIndex(path, read_only=True)) as index:
        yield index


def _identity(data: Path) -> Iterator[Problem]:
    """Key and certificate must be readable and belong together, or no other site is reached."""
    folder = data / "identity"
    if not any((folder / name).exists() for name in (CERTIFICATE_FILE, KEY_FILE)):
        return  # never paired; what disks are served with lies below that folder, too
    try:
        identity = load_identity(folder)
        certificate = x509.load_pem_x509_certificate(identity.certificate_pem.encode())
        certificate.verify_directly_issued_by(certificate)
        key = serialization.load_pem_private_key(Path(identity.key_path).read_bytes(), None)
        if key.public_key() != certificate.public_key():
            raise ValueError("key and certificate do not belong together")
    except (StargateError, OSError, ValueError, TypeError, InvalidSignature, UnsupportedAlgorithm) as exc:
        what = f"The site's identity is damaged: {str(exc) or 'its signature fails'}"
        yield Problem("identity", f"{what}. Bring it back from a copy, or remove it and pair the sites anew.")
