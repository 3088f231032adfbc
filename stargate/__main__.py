# SPDX-License-Identifier: Apache-2.0
"""`python -m stargate front|store|ctl|accept-loss|nbd-client`: the engine's processes, and orders from a shell."""

from __future__ import annotations

import argparse
import json
import logging
import sys
from pathlib import Path

from stargate.control.client import Engine
from stargate.errors import StargateError
from stargate.front import client_tool
from stargate.memory import few_arenas
from stargate.units import MiB


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="stargate", description=__doc__)
    parts = parser.add_subparsers(dest="part", required=True)
    front = parts.add_parser("front", help="NBD, log, reads")
    store = parts.add_parser("store", help="drain, fold, catalog, peer port")
    ctl = parts.add_parser("ctl", help="one order: stargate ctl --data DIR status | snapshots | call ORDER JSON")
    loss = parts.add_parser("accept-loss", help="give up what a damaged log lost and start a new one; engine stopped")
    check = parts.add_parser("check", help="read all stored data of a stopped site and say what is wrong with it")
    repair = parts.add_parser("repair", help="the same, and mend what can be mended here; moves aside, never deletes")
    clients = parts.add_parser("nbd-client", help="certificates of NBD clients: issue, list, revoke")
    client_tool.add_arguments(clients)
    for part in (front, store, ctl, loss, check, repair, clients):
        part.add_argument("--data", type=Path, required=True, help="the site's folder")
    for part in (front, store):
        part.add_argument("--listen", default="127.0.0.1", help="address for clients and peers")
    front.add_argument("--nbd-port", type=int, default=10809, help="0 = unix socket only")
    front.add_argument("--log-cap-mib", type=int, default=4096)
    front.add_argument("--segment-mib", type=int, default=64)
    store.add_argument("--peer-port", type=int, default=2009, help="0 = none")
    store.add_argument("--site-id", default="")
    store.add_argument("--hot-limit-mib", type=int, default=6144)
    store.add_argument("--curator-seconds", type=float, default=30.0, help="least pause between sweeps")
    choices = ("down", "before-damage", "newest-snapshot")
    loss.add_argument("--bring-back", choices=choices, default="down", help="what becomes of every disk")
    loss.add_argument("--disk", action="append", default=[], metavar="VDISK=CHOICE", help="of one: this, or a snapshot")
    loss.add_argument("--yes", action="store_true", help="do it; without this it only says what would be lost")
    ctl.add_argument("--store", action="store_true", help="ask the store process")
    ctl.add_argument("order")
    ctl.add_argument("args", nargs="?", default="{}", help="JSON object")
    return parser


def main(argv: list[str] | None = None) -> int:
    """Exit code 0, 1 when the engine refused to start or refused the order."""
    args = _parser().parse_args(argv)
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s %(message)s", stream=sys.stderr)
    few_arenas()
    if args.part == "front":
        from stargate.front.service import FrontSettings
        from stargate.front.service import serve as serve_front

        return serve_front(
            FrontSettings(args.data, args.listen, args.nbd_port, args.log_cap_mib * MiB, args.segment_mib * MiB)
        )
    if args.part == "store":
        from stargate.store.service import StoreSettings
        from stargate.store.service import serve as serve_store

        return serve_store(
            StoreSettings(
                args.data, args.listen, args.peer_port, args.site_id, args.hot_limit_mib * MiB, args.curator_seconds
            )
        )
    if args.part == "accept-loss":
        from stargate.store.loss_order import accept_loss

        return accept_loss(args.data, args.bring_back, args.disk, really=args.yes)
    if args.part in ("check", "repair"):
        from stargate.scrub.command import run

        return run(args.data, repair=args.part == "repair")
    if args.part == "nbd-client":
        return client_tool.run(args)
    return _order(args)


def _order(args: argparse.Namespace) -> int:
    engine = Engine(args.data / "run")
    connection = engine.store if args.store else engine.front
    try:
        print(json.dumps(connection.call(args.order, **json.loads(args.args)), indent=2))
    except StargateError as exc:
        print(f"{exc.code}: {exc.message}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
