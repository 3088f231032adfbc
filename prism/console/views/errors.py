# SPDX-License-Identifier: Apache-2.0
"""Error pages, whole or in the dialog. Each names a request id that is in the log, too. They need no database."""

from __future__ import annotations

import logging
import uuid

from django.http import HttpRequest, HttpResponse
from django.template.loader import render_to_string

from prism.core.exceptions import NotFound
from prism.webkit.pages import in_dialog

log = logging.getLogger("prism.console")

_PAGES = {
    400: ("Bad request", "The browser sent something that this page does not understand.", "Go back and try again."),
    403: ("Not allowed", "You may not do this.", "Ask an administrator for the rights."),
    404: ("Not found", "There is nothing at this address.", "It may have been deleted, or the address is mistyped."),
    500: (
        "Something went wrong here",
        "The order may or may not have been carried out.",
        "Look at Tasks and Audit, then try again. If it stays, give the request id to whoever runs this site.",
    ),
}


def request_id(request: HttpRequest) -> str:
    """The id a proxy or middleware gave the request, else one of our own."""
    given = str(getattr(request, "request_id", "") or request.headers.get("X-Request-ID", ""))[:64]
    return given if given.replace("-", "").isalnum() else uuid.uuid4().hex


def _page(request: HttpRequest, status: int, said: str = "") -> HttpResponse:
    title, text, step = _PAGES[status]
    number = request_id(request)
    log.log(
        logging.ERROR if status == 500 else logging.INFO,
        "%s %s -> %s, request id %s",
        request.method,
        request.path,
        status,
        number,
    )
    context = {
        "status": status,
        "title": title,
        "text": said or text,
        "step": step,
        "request_id": number,
        "request": request,
    }
    template = "console/error_dialog.html" if in_dialog(request) else "console/error.html"
    response = HttpResponse(render_to_string(template, context), status=status)
    response["X-Request-ID"] = number
    return response


def bad_request(request: HttpRequest, exception: Exception | None = None) -> HttpResponse:
    return _page(request, 400)


def permission_denied(request: HttpRequest, exception: Exception | None = None) -> HttpResponse:
    return _page(request, 403, str(exception or ""))


def not_found(request: HttpRequest, exception: Exception | None = None) -> HttpResponse:
    return _page(request, 404, exception.message if isinstance(exception, NotFound) else "")


def server_error(request: HttpRequest) -> HttpResponse:
    return _page(request, 500)


def csrf_failure(request: HttpRequest, reason: str = "") -> HttpResponse:
    return _page(
        request,
        403,
        "The form was open too long or came from another site; nothing was changed. Load the page again and repeat.",
    )
