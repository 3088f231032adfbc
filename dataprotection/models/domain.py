# SPDX-License-Identifier: Apache-2.0
"""Protection domains, their consistency groups and their entities."""

from __future__ import annotations

import uuid

from django.db import models
from django.db.models import Q
from django.utils import timezone

from dataprotection.choices import EntityType, Mode, StaleState
from dataprotection.models.inventory import NAME_MAX, VM, StorageContainer, StoredFile, VolumeGroup
from dataprotection.states import Phase

PHASES = [(phase.value, phase.value.replace("_", " ").capitalize()) for phase in Phase]


class ProtectionDomain(models.Model):
    """A group of entities with schedules. `phase` is changed by `services.phases` only; `mode` follows it.

    `mode_generation` is raised at every activation and travels with the domain: the higher of two wins.
    `generation_seen` is the highest that another site ever told: an activation here must be above that, too.
    `peer_active_site` names that other site while `stale_state` is active_elsewhere, else "".
    """

    uuid = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    name = models.CharField(max_length=NAME_MAX, unique=True)
    mode = models.CharField(max_length=16, choices=Mode.choices, default=Mode.ACTIVE)
    phase = models.CharField(max_length=16, choices=PHASES, default=Phase.ACTIVE)
    mode_generation = models.BigIntegerField(default=1)
    generation_seen = models.BigIntegerField(default=0)
    min_snapshots_to_retain = models.IntegerField(default=1)
    stale_state = models.CharField(max_length=20, choices=StaleState.choices, default=StaleState.NONE)
    peer_active_site = models.CharField(max_length=NAME_MAX, blank=True)
    whole_container = models.OneToOneField(
        StorageContainer, null=True, blank=True, on_delete=models.SET_NULL, related_name="protected_by"
    )
    schedules_suspended = models.BooleanField(default=False)
    marked_for_removal = models.BooleanField(default=False)
    created_at = models.DateTimeField(default=timezone.now)

    class Meta:
        ordering = ["name"]

    def __str__(self) -> str:
        return self.name

    @property
    def active(self) -> bool:
        return self.mode == Mode.ACTIVE


class DomainTransition(models.Model):
    """One step of a domain through the state table: history, and proof of who won a race."""

    domain = models.ForeignKey(ProtectionDomain, on_delete=models.CASCADE, related_name="transitions")
    at = models.DateTimeField(default=timezone.now)
    event = models.CharField(max_length=32)
    from_phase = models.CharField(max_length=16)
    to_phase = models.CharField(max_length=16)
    reason = models.TextField(blank=True)
    actor = models.CharField(max_length=200)

    class Meta:
        ordering = ["-at", "-id"]

    def __str__(self) -> str:
        return f"{self.domain}: {self.from_phase} -> {self.to_phase}"


class ConsistencyGroup(models.Model):
    """Entities that are one point in time. An application-consistent group holds one VM and nothing else."""

    domain = models.ForeignKey(ProtectionDomain, on_delete=models.CASCADE, related_name="groups")
    name = models.CharField(max_length=1024)
    app_consistent = models.BooleanField(default=False)

    class Meta:
        ordering = ["name"]
        constraints = [models.UniqueConstraint(fields=["domain", "name"], name="dp_group_name_in_domain")]

    def __str__(self) -> str:
        return self.name


class ProtectedEntity(models.Model):
    """The membership of one entity. one-to-one: an entity is in one domain at most.

    When the entity itself is gone (all three null) `name` and `entity_type` say what is missing.
    """

    domain = models.ForeignKey(ProtectionDomain, on_delete=models.CASCADE, related_name="entities")
    group = models.ForeignKey(ConsistencyGroup, on_delete=models.CASCADE, related_name="entities")
    entity_type = models.CharField(max_length=16, choices=EntityType.choices)
    name = models.CharField(max_length=1024)
    vm = models.OneToOneField(VM, null=True, blank=True, on_delete=models.SET_NULL, related_name="protection")
    volume_group = models.OneToOneField(
        VolumeGroup, null=True, blank=True, on_delete=models.SET_NULL, related_name="protection"
    )
    stored_file = models.OneToOneField(
        StoredFile, null=True, blank=True, on_delete=models.SET_NULL, related_name="protection"
    )
    protected_at = models.DateTimeField(default=timezone.now)

    class Meta:
        ordering = ["name"]
        verbose_name_plural = "protected entities"
        constraints = [
            models.CheckConstraint(
                condition=Q(vm__isnull=True, volume_group__isnull=True)
                | Q(vm__isnull=True, stored_file__isnull=True)
                | Q(volume_group__isnull=True, stored_file__isnull=True),
                name="dp_entity_one_target",
            )
        ]

    def __str__(self) -> str:
        return self.name

    @property
    def target(self) -> VM | VolumeGroup | StoredFile | None:
        """The protected object; None when it was deleted while protected (a missing entity)."""
        return self.vm or self.volume_group or self.stored_file
