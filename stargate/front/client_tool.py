# SPDX-License-Identifier: Apache-2.0
"""`python -m stargate nbd-client issue|list|revoke`: certificates of NBD clients from a shell, by a running engine."""

from __future__ import annotations

import argparse
import os
import sys
import time
from pathlib import Path

from stargate.control.client import Engine
from stargate.errors import StargateError

_FILES = (("ca-cert.pem", "authority_pem"), ("client-cert.pem", "certificate_pem"), ("client-key.pem", "key_pem"))


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """`--data` is the caller's."""
    verbs = parser.add_subparsers(dest="verb", required=True)
    issue = verbs.add_parser("issue", help="a new client, into a folder as QEMU and libnbd take it")
    issue.add_argument("name")
    issue.add_argument("--days", type=int, default=365)
    issue.add_argument("--out", type=Path, default=None, help="a folder that does not exist yet (default: the name)")
    verbs.add_parser("list", help="all ever issued")
    revoke = verbs.add_parser("revoke", help="it opens nothing any more; its connections are ended")
    revoke.add_argument("name")


def run(args: argparse.Namespace) -> int:
    """Exit code 0, 1 when the engine or the file system refused."""
    engine = Engine(args.data / "run")
    try:
        if args.verb == "issue":
            _issue(engine, args.name, args.days, args.out or Path(args.name))
        elif args.verb == "revoke":
            gone = engine.nbd_client_revoke(args.name)
            print(f"{args.name} is revoked; {gone['disconnected']} connections were ended")
        else:
            for client in engine.nbd_client_list():
                until = time.strftime("%Y-%m-%d", time.gmtime(client["expires_at"]))
                print(f"{client['name']}\t{client['state']}\tuntil {until}\t{client['fingerprint']}")
    except StargateError as error:
        print(f"{error.code}: {error.message}", file=sys.stderr)
        return 1
    except OSError as error:
        print(f"{error.filename}: {error.strerror}", file=sys.stderr)
        return 1
    return 0


def _issue(engine: Engine, name: str, days: int, folder: Path) -> None:
    """The folder is made first: a key that cannot be written must not be made."""
    folder.mkdir(mode=0o700)
    try:
        made = engine.nbd_client_issue(name, days)
    except StargateError:
        folder.rmdir()
        raise
    for file, key in _FILES:
        fd = os.open(folder / file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(fd, "w", encoding="ascii") as stream:
            stream.write(made[key])
    print(f"{folder} holds {', '.join(file for file, _ in _FILES)}; the key is nowhere else")
