# SPDX-License-Identifier: Apache-2.0
"""The search page, which is the command palette when it stands in the dialog; the list of keys."""

from __future__ import annotations

from django.http import HttpRequest, HttpResponse

from prism.console.search import QUERY_CHARACTERS_MAX, find
from prism.webkit.access import may_act, reader
from prism.webkit.pages import is_fragment, show


@reader
def search(request: HttpRequest) -> HttpResponse:
    """As a page, in the dialog, or only the hits."""
    query = request.GET.get("q", "")[:QUERY_CHARACTERS_MAX]
    context = {"nav": "Search", "query": query, "groups": find(query, may_act=may_act(request))}
    return show(request, "console/_hits.html" if is_fragment(request) else "console/search.html", context)


@reader
def shortcuts(request: HttpRequest) -> HttpResponse:
    """What the keys do."""
    return show(request, "console/shortcuts.html", {"nav": "Keys"})
