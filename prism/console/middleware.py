# SPDX-License-Identifier: Apache-2.0
"""What a service does not find is a page that says so, not a failure of this site."""

from __future__ import annotations

from django.http import HttpRequest, HttpResponse
from django.utils.deprecation import MiddlewareMixin

from prism.console.views.errors import not_found
from prism.core.exceptions import NotFound


class NotFoundPages(MiddlewareMixin):
    """For the console; the API translates its exceptions itself."""

    def process_exception(self, request: HttpRequest, exception: Exception) -> HttpResponse | None:
        """None: not ours, Django goes on."""
        return not_found(request, exception) if isinstance(exception, NotFound) else None
