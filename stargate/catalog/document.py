# SPDX-License-Identifier: Apache-2.0
"""JSON that the catalog can keep: what orders, and manifests of other sites, bring into it.

Once there it is copied, checkpointed and parsed again at every start; what cannot be would stop the engine for good.
"""

from __future__ import annotations

import json

from stargate.errors import InvalidArgument

DEPTH_MAX = 64
"""Levels of lists and objects; a copy of the state goes some hundred levels deep."""


def document(value: object) -> bytes:
    """Compact UTF-8 with sorted keys. Raises InvalidArgument."""
    if _depth_beyond(value, DEPTH_MAX):
        raise InvalidArgument(f"a manifest is nested deeper than {DEPTH_MAX} levels")
    try:
        return json.dumps(value, separators=(",", ":"), sort_keys=True, ensure_ascii=False, allow_nan=False).encode()
    except ValueError as exc:
        raise InvalidArgument("a manifest holds a number that is none, or text that is no Unicode") from exc


def _depth_beyond(value: object, levels: int) -> bool:
    children = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return levels < 0 or any(_depth_beyond(child, levels - 1) for child in children)
