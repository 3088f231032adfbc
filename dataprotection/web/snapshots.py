# SPDX-License-Identifier: Apache-2.0
"""One snapshot: Details, Recovery Details, Restore, delete."""

from __future__ import annotations

from typing import Any
from uuid import UUID

from django import forms
from django.http import Http404, HttpRequest, HttpResponse
from django.http.response import HttpResponseBase
from django.shortcuts import get_object_or_404
from django.urls import reverse

from dataprotection.choices import EntityType, SnapshotState
from dataprotection.models import ProtectionDomain, Snapshot
from dataprotection.selectors import recoverability
from dataprotection.services import images, space
from dataprotection.services import restore as restore_services
from dataprotection.services import snapshots as snapshot_services
from dataprotection.web.manifests import ManifestEntity, entities_of, groups_of
from dataprotection.web.orders import RETENTIONS, task_url
from prism.core.exceptions import Refused
from prism.webkit.access import operator, reader
from prism.webkit.downloads import download
from prism.webkit.orders import Done, actor_of, order_page, posted, say
from prism.webkit.pages import show
from replication.choices import Direction
from replication.models import Replication

USABLE = (SnapshotState.AVAILABLE, SnapshotState.RETAIN_FOREVER)
OVERWRITE, CREATE = "overwrite", "create"
PREFIXES = {
    EntityType.VM: "vm_prefix",
    EntityType.VOLUME_GROUP: "volume_group_prefix",
    EntityType.FILE: "file_prefix",
}
NEEDS_PREFIX = "New entities need a prefix, so that their names differ from the existing ones."
HOW = [(OVERWRITE, "Overwrite existing entities"), (CREATE, "Create new entities")]


def _snapshot(uuid: UUID) -> Snapshot:
    return get_object_or_404(Snapshot.objects.select_related("domain"), pk=uuid)


def back_of(snapshot: Snapshot) -> str:
    """The domain's Local Snapshots tab; the table when the domain is gone."""
    if snapshot.domain_id is None:
        return reverse("dp:domains")
    return reverse("dp:domain", args=[snapshot.domain_id]) + "?tab=local"


def _context(snapshot: Snapshot, **more: Any) -> dict[str, Any]:
    return {
        "nav": "Data Protection",
        "snapshot": snapshot,
        "domain": snapshot.domain,
        "back": back_of(snapshot),
        **more,
    }


def _copies(snapshot: Snapshot) -> list[Replication]:
    copies = Replication.objects.filter(snapshot_uuid=snapshot.pk, direction=Direction.OUT).select_related("site")
    return list(copies.order_by("site__name", "-created_at"))


@reader
def details(request: HttpRequest, uuid: UUID) -> HttpResponse:
    """Consistency groups, entities, size, copies elsewhere."""
    snapshot = _snapshot(uuid)
    return show(
        request,
        "dataprotection/snapshot.html",
        _context(snapshot, groups=groups_of(snapshot), copies=_copies(snapshot), downloadable=snapshot.state in USABLE),
    )


@reader
def recovery(request: HttpRequest, uuid: UUID) -> HttpResponse:
    """Recovery Details: per entity, where it can be recovered, and why not."""
    snapshot, error = _snapshot(uuid), ""
    try:
        found = recoverability(snapshot)
    except Refused as refusal:
        found, error = [], say(refusal)
    sites = [place.site for place in found[0].places[1:]] if found else []
    return show(request, "dataprotection/recovery.html", _context(snapshot, entities=found, sites=sites, error=error))


class RestoreForm(forms.Form):
    use_required_attribute = False  # which prefixes are needed follows from the choice above them

    entities = forms.MultipleChoiceField(
        label="What to Restore", error_messages={"required": "Tick at least one entity."}
    )
    how = forms.ChoiceField(label="How to Restore", choices=HOW, widget=forms.RadioSelect, initial=CREATE)
    disconnect_writers = forms.BooleanField(
        label="Disconnect clients that are using the disks",
        required=False,
        help_text="Without it a disk with a connected writer is not overwritten.",
    )
    vm_prefix = forms.CharField(label="VM Name Prefix", max_length=75, initial="Prism-Clone-")
    volume_group_prefix = forms.CharField(label="Volume Group Name Prefix", max_length=75, initial="Prism-Clone-")
    file_prefix = forms.CharField(label="File Path Prefix", max_length=255, initial="/Prism-Clone")

    def __init__(self, *args: Any, listed: list[ManifestEntity], overwrite: bool, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        entities, how = self.fields["entities"], self.fields["how"]
        if isinstance(entities, forms.ChoiceField) and isinstance(how, forms.ChoiceField):
            entities.choices = [(entity.uuid, entity.name) for entity in listed]
            entities.initial = [entity.uuid for entity in listed]
            how.choices = HOW if overwrite else HOW[1:]
        kinds = {entity.type for entity in listed}
        for kind, name in PREFIXES.items():
            self.fields[name].required = kind in kinds and self.data.get("how") != OVERWRITE
            self.fields[name].error_messages["required"] = NEEDS_PREFIX
        self.prefixes = [self[name] for kind, name in PREFIXES.items() if kind in kinds]


@operator
def download_disk(request: HttpRequest, uuid: UUID, disk: UUID) -> HttpResponseBase:
    """A disk as it was at the snapshot, as a raw image."""
    snapshot = _snapshot(uuid)
    sizes = {image: size for entity in entities_of(snapshot) for image, size in entity.images}
    if str(disk) not in sizes:
        raise Http404("The snapshot holds no such disk.")
    return download(
        request,
        images.export_snapshot_disk(snapshot, disk),
        size_bytes=sizes[str(disk)],
        name=f"snapshot-{snapshot.display_id}-{disk}.raw",
        back=back_of(snapshot),
    )


def overwrite_reason(domain: ProtectionDomain | None) -> str:
    """Why the snapshot cannot overwrite; "" when it can."""
    if domain is None:
        return "The protection domain no longer exists: create new entities."
    return "" if domain.active else "The protection domain is inactive here: only new entities can be created."


@operator
def restore(request: HttpRequest, uuid: UUID) -> HttpResponse:
    """Restore Snapshot: overwrite behind the fence, or create new entities."""
    snapshot = _snapshot(uuid)
    listed, reason = entities_of(snapshot), overwrite_reason(snapshot.domain)

    def order(data: dict[str, Any], key: str) -> Done:
        chosen = [UUID(entity) for entity in data["entities"]]
        if data["how"] == OVERWRITE:
            task = restore_services.overwrite(
                snapshot,
                entity_uuids=chosen,
                disconnect_writers=data["disconnect_writers"],
                idempotency_key=key,
                actor=actor_of(request),
            )
        else:
            task = restore_services.clone(
                snapshot,
                entity_uuids=chosen,
                vm_prefix=data["vm_prefix"],
                volume_group_prefix=data["volume_group_prefix"],
                file_prefix=data["file_prefix"],
                idempotency_key=key,
                actor=actor_of(request),
            )
        return Done(task_url(task, back_of(snapshot)), f"Snapshot {snapshot.display_id} is being restored.")

    form = RestoreForm(posted(request), listed=listed, overwrite=not reason)
    chosen = request.POST.getlist("entities") if request.method == "POST" else [entity.uuid for entity in listed]
    context = _context(snapshot, entities=listed, chosen=chosen, overwrite_reason=reason)
    return order_page(request, "dataprotection/restore.html", form, order, context, again_url=back_of(snapshot))


@operator
def delete(request: HttpRequest, uuid: UUID) -> HttpResponse:
    """✕ : this restore point is gone; the others do not depend on it."""
    snapshot = _snapshot(uuid)

    def order(_data: dict[str, Any], _key: str) -> Done:
        snapshot_services.delete(snapshot, actor=actor_of(request))
        return Done(back_of(snapshot), f"Snapshot {snapshot.display_id} was deleted.")

    form = forms.Form(posted(request))
    context = _context(snapshot, forecast=space.forecast([snapshot.pk]))
    return order_page(request, "dataprotection/snapshot_delete.html", form, order, context, again_url=back_of(snapshot))


class RetainForm(forms.Form):
    retention = forms.ChoiceField(label="RETENTION TIME", choices=RETENTIONS, required=False, help_text="From now on.")


@operator
def retain(request: HttpRequest, uuid: UUID) -> HttpResponse:
    """Change the expiry of this one snapshot."""
    snapshot = _snapshot(uuid)

    def order(data: dict[str, Any], _key: str) -> Done:
        seconds = int(data["retention"]) if data["retention"] else None
        snapshot_services.retain(snapshot, retention_seconds=seconds, actor=actor_of(request))
        return Done(back_of(snapshot), f"The expiry of snapshot {snapshot.display_id} was changed.")

    form = RetainForm(posted(request))
    return order_page(
        request, "dataprotection/snapshot_retain.html", form, order, _context(snapshot), again_url=back_of(snapshot)
    )
