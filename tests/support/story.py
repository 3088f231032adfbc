# SPDX-License-Identifier: Apache-2.0
"""A domain to tell stories with: one consistency group of a VM with two disks and a volume group."""

from __future__ import annotations

from dataclasses import dataclass

from stargate.units import MiB
from tests.support.load import Load
from tests.support.sites import Site

STAMPED_BLOCKS = 512


@dataclass(frozen=True)
class Story:
    """Names of what was made. `system` is for a file system; `load` writes to the VM's data disk and the group's."""

    domain: str
    vm: str
    group: str
    system: str
    load: Load
    disk_ids: dict[str, str]
    """export name -> uuid of the disk."""

    def snapshot_exports(self, snapshot: str) -> list[str]:
        """Where the disks of the load can be read as of a snapshot."""
        return [f"snapshot:{snapshot}:{self.disk_ids[export]}" for export in self.load.exports]


def protect(site: Site, word: str, *, system_bytes: int = 4 * MiB, data_bytes: int = 4 * MiB, seed: int = 1) -> Story:
    """Create the entities named after `word` and protect them in one consistency group of a new domain."""
    api = site.api
    disks = [{"size_bytes": system_bytes, "label": "system"}, {"size_bytes": data_bytes, "label": "data"}]
    vm = api.post("vms/", {"name": f"{word}-vm", "container": "default", "disks": disks}, expect=201)
    body = {"name": f"{word}-vg", "container": "default", "disks": [{"size_bytes": data_bytes}]}
    group = api.post("volume-groups/", body, expect=201)
    domain = api.post("protection-domains/", {"name": word}, expect=201)
    order = {"entities": [vm["uuid"], group["uuid"]], "group_mode": "new", "group_name": f"{word}-group"}
    protected = api.post(f"protection-domains/{domain['uuid']}/protect/", order)
    assert {(row["entity_type"], row["group"]) for row in protected["entities"]} == {
        ("vm", f"{word}-group"),
        ("volume_group", f"{word}-group"),
    }
    system, data = sorted(vm["disks"], key=lambda disk: int(disk["index"]))
    shared = group["disks"][0]
    load = Load([data["export_name"], shared["export_name"]], blocks=STAMPED_BLOCKS, seed=seed)
    ids = {disk["export_name"]: disk["uuid"] for disk in (system, data, shared)}
    return Story(word, vm["name"], group["name"], system["export_name"], load, ids)
