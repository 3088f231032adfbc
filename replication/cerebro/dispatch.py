# SPDX-License-Identifier: Apache-2.0
"""One call of another site: raw bytes in, status and JSON out. Runs in a thread with its own database connection."""

from __future__ import annotations

import json
import logging
import ssl
import uuid
from typing import Any

from django.db import close_old_connections

from prism.core.exceptions import Refused
from replication.cerebro.handlers import OPEN
from replication.models import RemoteSite
from replication.rpc import registry, schema
from stargate.errors import OperatorError, StargateError
from stargate.peer.identity import fingerprint

log = logging.getLogger(__name__)

Answer = tuple[int, dict[str, Any]]


def dispatch(name: str, certificate: bytes | None, address: str, raw: bytes) -> Answer:
    """Answer `name`. `certificate` (DER) has proven its key in the handshake; None = the caller showed none."""
    close_old_connections()
    try:
        return _dispatch(name, certificate, address, raw)
    except schema.SchemaError as error:
        return 400, error_body("bad_request", str(error))
    except Refused as error:
        return _refusal_status(error), error_body(error.code, error.message, error.next_step)
    except StargateError as error:
        # The order cannot be done (409), or the engine cannot work now (503), which the caller may retry.
        return 409 if isinstance(error, OperatorError) else 503, error_body(error.code, error.message)
    except Exception:
        reference = uuid.uuid4().hex
        log.exception("call %s from %s failed, reference %s", name, address, reference)
        return 500, error_body("internal", f"An unexpected error, reference {reference}.")
    finally:
        close_old_connections()


def _dispatch(name: str, certificate: bytes | None, address: str, raw: bytes) -> Answer:
    if name in OPEN:
        opened = OPEN[name]
        return 200, opened.handler(schema.decode(opened.payload, _json(raw)), address)
    site = paired_site(certificate)
    if site is None:
        return 403, error_body(
            "not_paired", "This site does not know you: the sites are not paired.", "Pair them with a one-time code."
        )
    rpc = registry.find(name)
    if rpc is None:
        return 404, error_body("unknown_call", f"This site has no call {name[:64]!r}; it may run an older release.")
    return 200, rpc.handler(registry.PeerCall(site, address), schema.decode(rpc.payload, _json(raw)))


def paired_site(certificate: bytes | None) -> RemoteSite | None:
    """Whose pinned certificate this is, asked anew at each call, so that unpairing holds at once. None = nobody's."""
    if not certificate:
        return None
    found = fingerprint(ssl.DER_cert_to_PEM_cert(certificate))
    return RemoteSite.objects.filter(fingerprint=found).exclude(certificate_pem="").first()


def _json(raw: bytes) -> object:
    try:
        return json.loads(raw or b"{}")
    except (ValueError, RecursionError) as error:
        raise schema.SchemaError(f"the body is not JSON: {type(error).__name__}") from error


def _refusal_status(error: Refused) -> int:
    """A refusal of ours must read as one over there: only `Unreachable` (503) may be retried."""
    return error.http_status if 400 <= error.http_status <= 599 else 409


def error_body(code: str, message: str, next_step: str = "") -> dict[str, Any]:
    """The error shape of all doors."""
    return {"error": {"code": code, "message": message, "next_step": next_step}}
