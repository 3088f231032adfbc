# SPDX-License-Identifier: Apache-2.0
"""This site, and the one counter of its metadata objects."""

from __future__ import annotations

from django.db import models


class Site(models.Model):
    """One row: who we are. A snapshot that left it is called `cluster_id:incarnation_id:local_id`."""

    uuid = models.UUIDField(unique=True)
    name = models.CharField(max_length=75)
    cluster_id = models.BigIntegerField()
    incarnation_id = models.BigIntegerField()

    class Meta:
        constraints = [models.CheckConstraint(condition=models.Q(id=1), name="core_site_one_row")]

    def __str__(self) -> str:
        return self.name


class LocalIdCounter(models.Model):
    """One row: the last number given out by `next_local_id`."""

    last_id = models.BigIntegerField(default=0)

    class Meta:
        constraints = [models.CheckConstraint(condition=models.Q(id=1), name="core_counter_one_row")]

    def __str__(self) -> str:
        return str(self.last_id)
