# SPDX-License-Identifier: Apache-2.0
"""Root of the JSON API, mounted at /api/v1/."""

from __future__ import annotations

from django.urls import include, path, re_path
from drf_spectacular.views import SpectacularAPIView

from prism.core.api.errors import no_such_address

urlpatterns = [
    path("schema/", SpectacularAPIView.as_view(), name="schema"),
    path("", include("prism.core.api.urls")),
    path("", include("replication.api.urls")),
    path("", include("dataprotection.api.urls")),
    re_path(r"^(?P<rest>.*)$", no_such_address, name="no-such-address"),
]
