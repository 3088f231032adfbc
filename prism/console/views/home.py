# SPDX-License-Identifier: Apache-2.0
"""The landing page: problems first, then "can I restore, and from when" for each domain."""

from __future__ import annotations

from django.http import HttpRequest, HttpResponse

from prism.console.home import home_page
from prism.webkit.access import reader
from prism.webkit.pages import is_fragment, show


@reader
def home(request: HttpRequest) -> HttpResponse:
    """The page, or its live part."""
    template = "console/_home.html" if is_fragment(request) else "console/home.html"
    return show(request, template, {"nav": "Home", "home": home_page()})


@reader
def bar(request: HttpRequest) -> HttpResponse:
    """The live part of the top bar."""
    return show(request, "console/_bar_state.html")
