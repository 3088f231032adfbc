# SPDX-License-Identifier: Apache-2.0
"""Storage containers."""

from __future__ import annotations

from dataprotection.models import StorageContainer
from dataprotection.services import naming
from prism.core.actor import Actor
from prism.core.exceptions import Conflict
from prism.core.services import audit


def create(*, name: str, fingerprinting: bool = True, compress: bool = True, actor: Actor) -> StorageContainer:
    """A new, empty container."""
    with audit.order("container.create", actor=actor, object_type="container", object_name=name):
        naming.domain_name(name)
        naming.must_be_new(StorageContainer, "name", name, "container")
        return StorageContainer.objects.create(name=name, fingerprinting=fingerprinting, compress=compress)


def update(
    container: StorageContainer, *, fingerprinting: bool | None = None, compress: bool | None = None, actor: Actor
) -> StorageContainer:
    """Change what is given; holds for what is replicated from now on."""
    with audit.order("container.update", actor=actor, object_type="container", object_name=container.name):
        if fingerprinting is not None:
            container.fingerprinting = fingerprinting
        if compress is not None:
            container.compress = compress
        container.save(update_fields=["fingerprinting", "compress"])
    return container


def delete(container: StorageContainer, *, actor: Actor) -> None:
    """Only an empty container can go."""
    with audit.order("container.delete", actor=actor, object_type="container", object_name=container.name):
        held = container.vms.count() + container.volume_groups.count() + container.files.count()
        if held:
            raise Conflict(
                "container_not_empty",
                f"The container {container.name} still holds {held} entities.",
                "Delete or move them first.",
            )
        container.delete()
