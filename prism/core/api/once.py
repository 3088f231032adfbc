# SPDX-License-Identifier: Apache-2.0
"""Idempotency-Key on every POST, by one mechanism: the base of all view sets that take orders."""

from __future__ import annotations

import hashlib
import json
from typing import Any

from rest_framework.renderers import JSONRenderer
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from prism.core.api.base import idempotency_key
from prism.core.exceptions import Conflict
from prism.core.models import Order
from prism.core.services import orders_once


class _Again(Exception):
    """The order was carried out before."""

    def __init__(self, order: Order) -> None:
        super().__init__(order.key)
        self.order = order


class OrdersOnce(APIView):
    """Only an order that was carried out is remembered, and only after its user proved who they are and that they may;
    a refused one changed nothing and can be sent again, corrected, with the same key.
    """

    shown_once: frozenset[str] = frozenset()
    """Actions whose answer holds a secret: it is not kept, and not told a second time."""

    _order: Order | None = None

    def initial(self, request: Request, *args: Any, **kwargs: Any) -> None:
        super().initial(request, *args, **kwargs)
        key = idempotency_key(request) if request.method == "POST" else None
        if key is None or request.user.pk is None:
            return
        order = orders_once.begin(request.user.pk, request.headers["Idempotency-Key"], _fingerprint(request))
        if order.status is not None:
            raise _Again(order)
        self._order = order

    def handle_exception(self, exc: Exception) -> Response:
        if not isinstance(exc, _Again):
            return super().handle_exception(exc)
        order = exc.order
        if order.is_secret:
            refusal = Conflict(
                "shown_once",
                "This order was carried out; its answer held a secret, which is shown once.",
                "Revoke what was made, and order anew with another key.",
            )
            return super().handle_exception(refusal)
        headers = {"Location": order.location} if order.location else {}
        return Response(json.loads(order.body) if order.body else None, order.status, headers=headers)

    def finalize_response(self, request: Request, response: Any, *args: Any, **kwargs: Any) -> Any:
        answer = super().finalize_response(request, response, *args, **kwargs)
        order, self._order = self._order, None
        if order is None:
            return answer
        if not 200 <= answer.status_code < 300:
            orders_once.give_up(order)
            return answer
        data = getattr(answer, "data", None)
        body = "" if data is None else JSONRenderer().render(data).decode()
        secret = getattr(self, "action", None) in self.shown_once
        orders_once.finish(order, answer.status_code, None if secret else body, answer.headers.get("Location", ""))
        return answer


def _fingerprint(request: Request) -> str:
    """Of what is ordered. A long upload counts by its address: it is not read twice."""
    body = ""
    if (request.content_type or "").startswith("application/json"):
        body = json.dumps(request.data, sort_keys=True)
    text = "\n".join([request.method or "", request.get_full_path(), body])
    return hashlib.sha256(text.encode()).hexdigest()


def in_schema(result: dict[str, Any], **_: Any) -> dict[str, Any]:
    """Post-processing of the OpenAPI document: the header at every POST."""
    for operations in result["paths"].values():
        if "post" in operations:
            operations["post"].setdefault("parameters", []).append(_HEADER)
    return result


_HEADER = {
    "name": "Idempotency-Key",
    "in": "header",
    "required": False,
    "description": "A text of your own. The same order sent again with it within 24 hours is carried out once and "
    "answered as the first time; another order with it is refused (409 idempotency_key_reused).",
    "schema": {"type": "string", "minLength": 1, "maxLength": 128},
    "example": "6f1b8a52-2f0a-4f0e-9a53-0d9a3c1d7f10",
}
