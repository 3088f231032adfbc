# SPDX-License-Identifier: Apache-2.0
"""The block engine of this site, as Django sees it."""

from __future__ import annotations

from django.conf import settings

from prism.core.exceptions import Unreachable
from stargate.control.client import Engine


def engine() -> Engine:
    """Client of this site's Stargate. Cheap: it connects per call. Raises `Unreachable` outside a site."""
    run_dir = getattr(settings, "PRISM_RUN_DIR", None)
    if run_dir is None:
        raise Unreachable(
            "no_engine", "This process does not know its site's block engine.", "Start it with PRISM_DATA set."
        )
    return Engine(run_dir)
