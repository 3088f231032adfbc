# SPDX-License-Identifier: Apache-2.0
"""Addresses of data protection and of the inventory."""

from django.urls import path

from dataprotection.web import domains, orders, schedules, snapshots, wizard
from dataprotection.web.inventory import disks, files, vms, volume_groups

app_name = "dp"

urlpatterns = [
    path("", domains.domains, name="domains"),
    path("domains/new/", wizard.new, name="wizard-name"),
    path("domains/<uuid:uuid>/", domains.domain, name="domain"),
    path("domains/<uuid:uuid>/entities/", wizard.entities, name="wizard-entities"),
    path("domains/<uuid:uuid>/unprotect/", wizard.unprotect, name="unprotect"),
    path("domains/<uuid:uuid>/schedules/", wizard.schedules, name="wizard-schedules"),
    path("domains/<uuid:uuid>/schedules/new/", schedules.new, name="schedule-new"),
    path("domains/<uuid:uuid>/take-snapshot/", orders.take_snapshot, name="take-snapshot"),
    path("domains/<uuid:uuid>/migrate/", orders.migrate, name="migrate"),
    path("domains/<uuid:uuid>/activate/", orders.activate, name="activate"),
    path("domains/<uuid:uuid>/deactivate/", orders.deactivate, name="deactivate"),
    path("domains/<uuid:uuid>/delete/", orders.delete, name="delete"),
    path("schedules/preview/", schedules.preview, name="schedule-preview"),
    path("schedules/<uuid:uuid>/", schedules.change, name="schedule"),
    path("schedules/<uuid:uuid>/remove/", schedules.remove, name="schedule-remove"),
    path("snapshots/<uuid:uuid>/", snapshots.details, name="snapshot"),
    path("snapshots/<uuid:uuid>/recovery/", snapshots.recovery, name="recovery"),
    path("snapshots/<uuid:uuid>/restore/", snapshots.restore, name="restore"),
    path("snapshots/<uuid:uuid>/retain/", snapshots.retain, name="snapshot-retain"),
    path("snapshots/<uuid:uuid>/delete/", snapshots.delete, name="snapshot-delete"),
    path("inventory/vms/", vms.vms, name="vms"),
    path("inventory/vms/new/", vms.create, name="vm-new"),
    path("inventory/vms/<uuid:uuid>/", vms.vm, name="vm"),
    path("inventory/vms/<uuid:uuid>/edit/", vms.edit, name="vm-edit"),
    path("inventory/vms/<uuid:uuid>/delete/", vms.delete, name="vm-delete"),
    path("inventory/vms/<uuid:uuid>/nics/new/", vms.add_nic, name="nic-new"),
    path("inventory/vms/<uuid:uuid>/disks/new/", disks.add_to_vm, name="vm-disk-new"),
    path("inventory/nics/<int:pk>/remove/", vms.remove_nic, name="nic-remove"),
    path("inventory/volume-groups/", volume_groups.volume_groups, name="volume-groups"),
    path("inventory/volume-groups/new/", volume_groups.create, name="volume-group-new"),
    path("inventory/volume-groups/<uuid:uuid>/", volume_groups.volume_group, name="volume-group"),
    path("inventory/volume-groups/<uuid:uuid>/edit/", volume_groups.edit, name="volume-group-edit"),
    path("inventory/volume-groups/<uuid:uuid>/delete/", volume_groups.delete, name="volume-group-delete"),
    path("inventory/volume-groups/<uuid:uuid>/attach/", volume_groups.attach, name="volume-group-attach"),
    path("inventory/volume-groups/<uuid:uuid>/detach/<uuid:vm>/", volume_groups.detach, name="volume-group-detach"),
    path("inventory/volume-groups/<uuid:uuid>/disks/new/", disks.add_to_volume_group, name="volume-group-disk-new"),
    path("inventory/disks/<uuid:uuid>/resize/", disks.resize, name="disk-resize"),
    path("inventory/disks/<uuid:uuid>/move/", disks.move, name="disk-move"),
    path("inventory/disks/<uuid:uuid>/remove/", disks.remove, name="disk-remove"),
    path("inventory/disks/<uuid:uuid>/import/", disks.import_raw, name="disk-import"),
    path("inventory/disks/<uuid:uuid>/export/", disks.export_raw, name="disk-export"),
    path("inventory/files/", files.files, name="files"),
    path("inventory/files/new/", files.upload, name="file-new"),
    path("inventory/files/<uuid:uuid>/", files.stored_file, name="file"),
    path("inventory/files/<uuid:uuid>/download/", files.download, name="file-download"),
    path("inventory/files/<uuid:uuid>/delete/", files.delete_file, name="file-delete"),
    path("inventory/containers/", files.containers, name="containers"),
    path("inventory/containers/new/", files.create_container, name="container-new"),
    path("inventory/containers/<int:pk>/edit/", files.edit_container, name="container-edit"),
    path("inventory/containers/<int:pk>/delete/", files.delete_container, name="container-delete"),
]
