# SPDX-License-Identifier: Apache-2.0
"""Below /api/v1/. The API root extends its router with `router.registry` or includes `urlpatterns`."""

from __future__ import annotations

from rest_framework.routers import SimpleRouter

from replication.api.views import RemoteSiteViewSet, ReplicationViewSet

router = SimpleRouter()
router.register("remote-sites", RemoteSiteViewSet, basename="remote-site")
router.register("replications", ReplicationViewSet, basename="replication")

urlpatterns = router.urls
