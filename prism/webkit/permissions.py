# SPDX-License-Identifier: Apache-2.0
"""The console's rule, for the API: everybody signed in reads, operators act."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rest_framework.permissions import SAFE_METHODS, IsAuthenticated

from prism.webkit.access import ADMIN_REASON, READ_ONLY_REASON, may_act

if TYPE_CHECKING:  # REST framework's views load this class by their settings
    from rest_framework.request import Request
    from rest_framework.views import APIView


class ReadOrOperate(IsAuthenticated):
    """Refuses orders of users without the operator group."""

    message = READ_ONLY_REASON

    def has_permission(self, request: Request, view: APIView) -> bool:
        if not super().has_permission(request, view):
            return False
        return request.method in SAFE_METHODS or may_act(request)


class Operate(ReadOrOperate):
    """Only operators, reading too: bytes of disks are for those who may restore them."""

    def has_permission(self, request: Request, view: APIView) -> bool:
        return super().has_permission(request, view) and may_act(request)


class Administer(IsAuthenticated):
    """Only administrators, reading too."""

    message = ADMIN_REASON

    def has_permission(self, request: Request, view: APIView) -> bool:
        return super().has_permission(request, view) and bool(request.user.is_superuser)
