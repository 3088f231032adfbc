# SPDX-License-Identifier: Apache-2.0
"""An example of each request body, for the OpenAPI document. By the name of the body's shape there."""

from __future__ import annotations

from typing import Any

_SITE = "3f6d2c1a-8b7e-4d5f-9a01-2b3c4d5e6f70"
_ENTITY = "7a1e5c9d-0b2f-4e83-a6d4-1c2b3a495867"
_SNAPSHOT = "c4d5e6f7-1829-4a3b-8c4d-5e6f708192a3"
_GIB = 2**30

EXAMPLES: dict[str, dict[str, Any]] = {
    "NewContainer": {"name": "default", "compress": True, "fingerprinting": True},
    "PatchedChangeContainer": {"compress": False},
    "Move": {"vm": _ENTITY, "bus": "scsi", "index": 2},
    "Resize": {"size_bytes": 64 * _GIB},
    "WriteThrough": {"enabled": True},
    "NewFile": {"path": "/images/debian-12.iso", "container": "default", "size_bytes": 4 * _GIB},
    "NewNbdClient": {"name": "hypervisor-3", "days": 365},
    "Name": {"name": "gold-db"},
    "PatchedChangeDomain": {"min_snapshots_to_retain": 2, "schedules_suspended": False},
    "Activate": {"snapshot": _SNAPSHOT, "force": False},
    "ChangeGroup": {"group": "db", "app_consistent": False},
    "Migrate": {"site": _SITE},
    "Protect": {"entities": [_ENTITY], "group_mode": "new", "group_name": "db", "app_consistent": False},
    "ScheduleSpec": {
        "type": "HOURLY",
        "every_nth": 4,
        "timezone": "Europe/Berlin",
        "local_keep": 12,
        "remotes": [{"site": _SITE, "keep": 42}],
    },
    "Take": {"local": True, "sites": [_SITE], "retention_seconds": 86_400},
    "Unprotect": {"entities": [17, 18]},
    "RemoteSiteOrder": {
        "name": "berlin",
        "addresses": [{"host": "dr.example.com", "control_port": 2020, "data_port": 2009}],
        "compress": True,
    },
    "PatchedRemoteSiteOrder": {"container_map": {"default": "dr"}, "network_map": {"lan": "lan-dr"}},
    "Pair": {"host": "dr.example.com", "code": "K7QF-2M9X-TR4D", "control_port": 2020},
    "Suspend": {"suspended": True},
    "Clone": {"entities": [_ENTITY], "vm_prefix": "test-", "volume_group_prefix": "test-", "file_prefix": "/test"},
    "Overwrite": {"entities": [_ENTITY], "disconnect_writers": False},
    "Retain": {"retention_seconds": 7 * 86_400},
    "NewToken": {"name": "nightly-report", "expires_at": "2027-01-31T00:00:00Z"},
    "NewUser": {"username": "nina", "role": "operator"},
    "PatchedChangeUser": {"role": "viewer", "is_active": True},
    "NewVm": {
        "name": "db01",
        "container": "default",
        "vcpus": 4,
        "memory_bytes": 8 * _GIB,
        "disks": [{"size_bytes": 64 * _GIB, "bus": "scsi"}],
        "networks": ["lan"],
    },
    "PatchedChangeVm": {"vcpus": 8, "description": "The database"},
    "NewDisk": {"size_bytes": 16 * _GIB, "bus": "scsi", "write_through": False},
    "Network": {"network": "lan"},
    "NewVolumeGroup": {"name": "db01-data", "container": "default", "disks": [{"size_bytes": 128 * _GIB}]},
    "PatchedChangeVolumeGroup": {"description": "Tablespaces"},
    "Attach": {"vm": _ENTITY},
}


def in_schema(result: dict[str, Any], **_: Any) -> dict[str, Any]:
    """Post-processing of the OpenAPI document: the example beside each body."""
    for operations in result["paths"].values():
        for operation in operations.values():
            content = operation.get("requestBody", {}).get("content", {}).get("application/json")
            if content is not None:
                content["example"] = EXAMPLES[content["schema"]["$ref"].rpartition("/")[2]]
    return result
