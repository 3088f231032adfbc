# SPDX-License-Identifier: Apache-2.0
"""Answers of the console: whole pages, the same pages inside the dialog, and "done, go there"."""

from __future__ import annotations

import hashlib
from typing import Any

from django.contrib import messages
from django.http import HttpRequest, HttpResponse, HttpResponseNotModified, HttpResponseRedirect
from django.shortcuts import render
from django.utils.cache import patch_cache_control, patch_vary_headers
from django.utils.http import url_has_allowed_host_and_scheme

DIALOG_ID = "dialog"


def in_dialog(request: HttpRequest) -> bool:
    """Whether htmx asked for the content of the dialog (the same address is a whole page without it)."""
    return request.headers.get("HX-Request") == "true" and request.headers.get("HX-Target") == DIALOG_ID


def is_fragment(request: HttpRequest) -> bool:
    """Whether htmx asked for a part of a page."""
    return request.headers.get("HX-Request") == "true" and not in_dialog(request)


def show(
    request: HttpRequest, template: str, context: dict[str, Any] | None = None, *, status: int = 200
) -> HttpResponse:
    """Render `template`; it extends the variable `layout`, so that one template is a page and a dialog."""
    layout = "prism/dialog.html" if in_dialog(request) else "prism/page.html"
    response = render(
        request, template, {"layout": layout, "in_dialog": in_dialog(request), **(context or {})}, status=status
    )
    patch_vary_headers(response, ["HX-Request", "HX-Target", "Cookie"])
    patch_cache_control(response, private=True, no_store=True)
    return _unless_known(request, response) if is_fragment(request) and status == 200 else response


def _unless_known(request: HttpRequest, response: HttpResponse) -> HttpResponse:
    """304 for a part of a page that looks as the one its tab has already: nothing is sent, nothing is drawn again."""
    tag = f'W/"{hashlib.sha256(response.content).hexdigest()[:32]}"'
    if request.method == "GET" and request.headers.get("If-None-Match") == tag:
        response = HttpResponseNotModified()
        patch_cache_control(response, private=True, no_store=True)
    response["ETag"] = tag
    return response


def done(request: HttpRequest, url: str, message: str = "") -> HttpResponse:
    """The order is given: say it and go to `url` (post, redirect, get)."""
    if message:
        messages.success(request, message)
    if request.headers.get("HX-Request") == "true":
        return HttpResponse(status=204, headers={"HX-Redirect": url})
    return HttpResponseRedirect(url)


def refused(request: HttpRequest, url: str, message: str) -> HttpResponse:
    """An order without a form (one button) was refused: say why on the page it came from."""
    messages.error(request, message)
    return done(request, url)


def back_url(request: HttpRequest, default: str) -> str:
    """The local address a form names in `next`; `default` for none or a foreign one."""
    url = request.POST.get("next") or request.GET.get("next") or ""
    return url if url_has_allowed_host_and_scheme(url, allowed_hosts=None) and url.startswith("/") else default
