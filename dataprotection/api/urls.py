# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from rest_framework.routers import SimpleRouter

from dataprotection.api import domains, inventory, kept, snapshots

router = SimpleRouter()
router.register("containers", inventory.ContainerViewSet, basename="container")
router.register("vms", inventory.VmViewSet, basename="vm")
router.register("volume-groups", inventory.VolumeGroupViewSet, basename="volume-group")
router.register("files", inventory.FileViewSet, basename="file")
router.register("disks", inventory.DiskViewSet, basename="disk")
router.register("protection-domains", domains.DomainViewSet, basename="protection-domain")
router.register("schedules", domains.ScheduleViewSet, basename="schedule")
router.register("snapshots", snapshots.SnapshotViewSet, basename="snapshot")
router.register("one-time-snapshots", snapshots.OneTimeViewSet, basename="one-time-snapshot")
router.register("kept-states", kept.KeptViewSet, basename="kept-state")

urlpatterns = router.urls
