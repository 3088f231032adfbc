# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from prism.core.models.access import Account, RecoveryCode, SignInSession
from prism.core.models.account import ApiToken, AuditRow
from prism.core.models.measurement import Measurement
from prism.core.models.notice import Alert, Event
from prism.core.models.order import Order
from prism.core.models.site import LocalIdCounter, Site
from prism.core.models.task import STALLED_AFTER, Task

__all__ = [
    "STALLED_AFTER",
    "Account",
    "Alert",
    "ApiToken",
    "AuditRow",
    "Event",
    "LocalIdCounter",
    "Measurement",
    "Order",
    "RecoveryCode",
    "SignInSession",
    "Site",
    "Task",
]
