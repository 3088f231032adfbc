# SPDX-License-Identifier: Apache-2.0
"""The base of every view set of the API: what holds at all of its addresses."""

from __future__ import annotations

from prism.core.api.conditional import Conditional
from prism.core.api.once import OrdersOnce


class Resource(Conditional, OrdersOnce):
    """A POST that is sent again is answered before its If-Match is looked at: the first may have changed the tag."""
