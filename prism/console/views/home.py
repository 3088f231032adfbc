# SPDX-License-Identifier: Apache-2.0
"""The landing page: problems first, then "can I restore, and from when" for each domain."""

from __future__ import annotations

from django.http import HttpRequest, HttpResponse
from django.utils import timezone

from prism.console.capacity import capacity_chart
from prism.console.home import home_page
from prism.webkit.access import reader
from prism.webkit.charts import chart_file
from prism.webkit.pages import is_fragment, show
from prism.webkit.times import zone_of


@reader
def home(request: HttpRequest) -> HttpResponse:
    """The page, or its live part."""
    template = "console/_home.html" if is_fragment(request) else "console/home.html"
    capacity = capacity_chart(timezone.now(), zone_of(request))
    exported = chart_file(request, [capacity], name="site")
    return exported or show(request, template, {"nav": "Home", "home": home_page(), "capacity": capacity})


@reader
def bar(request: HttpRequest) -> HttpResponse:
    """The live part of the top bar."""
    return show(request, "console/_bar_state.html")
