# SPDX-License-Identifier: Apache-2.0
"""All addresses of the web console: what `prism.urls` includes at the root."""

from django.urls import include, path

urlpatterns = [
    path("", include("prism.console.urls")),
    path("data-protection/", include("dataprotection.web.urls")),
    path("data-protection/remote-sites/", include("replication.web.urls")),
]
