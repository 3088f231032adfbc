# SPDX-License-Identifier: Apache-2.0
"""This site's own row."""

from __future__ import annotations

import uuid

from django.conf import settings

from prism.core.exceptions import Unreachable
from prism.core.models import Site


def this_site() -> Site:
    """The one row, made from `site.json` when it is missing. Raises `Unreachable` when there is neither."""
    site = Site.objects.filter(pk=1).first()
    if site is not None:
        return site
    config = getattr(settings, "SITE_CONFIG", None)
    if config is None:
        raise Unreachable("no_site", "This process does not know its site.", "Start it with PRISM_DATA set.")
    values = {
        "uuid": uuid.UUID(config.uuid),
        "name": config.name,
        "cluster_id": config.cluster_id,
        "incarnation_id": config.incarnation_id,
    }
    return Site.objects.get_or_create(pk=1, defaults=values)[0]
