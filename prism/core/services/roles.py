# SPDX-License-Identifier: Apache-2.0
"""Three roles: viewers read, operators act, administrators also manage users and see the admin pages."""

from __future__ import annotations

from django.contrib.auth.models import Group, User
from django.db import models
from django.db.models import Count, Q, QuerySet

OPERATOR_GROUP = "operator"


class Role(models.TextChoices):
    VIEWER = "viewer", "Viewer"
    OPERATOR = "operator", "Operator"
    ADMIN = "admin", "Administrator"


ROLE_WORDS = {
    Role.VIEWER: "Sees everything but the content of disks; changes nothing.",
    Role.OPERATOR: "Also protects, snapshots, restores, migrates and pairs sites.",
    Role.ADMIN: "Also manages users and sees the administration pages.",
}


def role_of(user: User) -> Role:
    """The role of an account; one query unless `with_roles` made the row."""
    if user.is_superuser:
        return Role.ADMIN
    known = getattr(user, "operates", None)
    operates = user.groups.filter(name=OPERATOR_GROUP).exists() if known is None else known
    return Role.OPERATOR if operates else Role.VIEWER


def with_roles() -> QuerySet[User]:
    """All accounts, each knowing its role."""
    return User.objects.annotate(operates=Count("groups", filter=Q(groups__name=OPERATOR_GROUP)))


def put_role(user: User, role: str) -> None:
    """Write the role to the row and its groups; for the services, inside their transaction."""
    user.is_superuser = user.is_staff = role == Role.ADMIN
    user.save(update_fields=["is_superuser", "is_staff"])
    group, _ = Group.objects.get_or_create(name=OPERATOR_GROUP)
    if role == Role.OPERATOR:
        user.groups.add(group)
    else:
        user.groups.remove(group)
