# SPDX-License-Identifier: Apache-2.0
"""Numbers over time, for charts. What was not measured has no row."""

from __future__ import annotations

from django.db import models


class Measurement(models.Model):
    """One number of one step. `subject`: the uuid of what it is about, empty for this site; `at`: the step's start."""

    series = models.CharField(max_length=32)
    subject = models.CharField(max_length=36, blank=True)
    at = models.DateTimeField()
    value = models.BigIntegerField()

    class Meta:
        constraints = [models.UniqueConstraint(fields=["series", "subject", "at"], name="core_measurement_one_a_step")]
        indexes = [models.Index(fields=["at"], name="core_measurement_at")]

    def __str__(self) -> str:
        return f"{self.series} {self.subject} {self.at:%Y-%m-%d %H:%M} {self.value}".replace("  ", " ")
