# SPDX-License-Identifier: Apache-2.0
"""Values that a database refuses, or cannot hold: answered with 422, never with 500."""

from __future__ import annotations

import uuid
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.test import Client

from dataprotection.models import VM, ProtectionDomain, StorageContainer
from prism.core.actor import Actor
from prism.core.models import Site
from prism.core.services import tokens
from replication.models import RemoteSite

pytestmark = pytest.mark.django_db
HUGE = 2**70


@pytest.fixture
def client() -> Client:
    Site.objects.create(pk=1, uuid=uuid.uuid4(), name="site1", cluster_id=1, incarnation_id=2)
    user = User.objects.create(username="maria", is_superuser=True)
    _, text = tokens.create(user=user, name="test", actor=Actor.cli("test"))
    return Client(headers={"Authorization": f"Bearer {text}"}, raise_request_exception=False)


@pytest.fixture
def ids() -> dict[str, Any]:
    container = StorageContainer.objects.create(name="default")
    return {
        "domain": ProtectionDomain.objects.create(name="pd").pk,
        "vm": VM.objects.create(name="vm", container=container).pk,
        "site": RemoteSite.objects.create(name="s2", addresses=[{"host": "192.0.2.1"}]).uuid,
    }


@pytest.mark.parametrize(
    ("method", "address", "body"),
    [
        ("patch", "protection-domains/{domain}/", {"min_snapshots_to_retain": HUGE}),
        ("patch", "vms/{vm}/", {"vcpus": HUGE}),
        ("patch", "vms/{vm}/", {"memory_bytes": HUGE}),
        ("patch", "vms/{vm}/", {"memory_bytes": -HUGE}),
        ("patch", "vms/{vm}/", {"power_state": "x" * 99}),
        ("post", "vms/{vm}/disks/", {"size_bytes": HUGE}),
        ("post", "vms/{vm}/disks/", {"size_bytes": 4096, "index": HUGE}),
        ("post", "vms/{vm}/nics/", {"network": "x" * 9999}),
        ("post", "vms/", {"name": "v", "container": "default", "vcpus": HUGE}),
        ("post", "vms/", {"name": "v", "container": "default", "memory_bytes": HUGE}),
        ("post", "protection-domains/{domain}/schedules/", {"type": "HOURLY", "every_nth": HUGE}),
        ("post", "protection-domains/{domain}/schedules/", {"type": "HOURLY", "every_nth": 1, "local_keep": HUGE}),
        (
            "post",
            "protection-domains/{domain}/schedules/",
            {"type": "DAILY", "every_nth": 1, "timezone": "/etc/passwd"},
        ),
        ("post", "protection-domains/{domain}/unprotect/", {"entities": [HUGE]}),
        (
            "post",
            "protection-domains/{domain}/protect/",
            {"entities": [], "group_mode": "new", "group_name": "x" * 9999},
        ),
        ("post", "files/", {"path": "/" + "x" * 9999, "container": "default", "size_bytes": 4096}),
        ("post", "files/", {"path": "/x", "container": "default", "size_bytes": HUGE}),
        ("patch", "remote-sites/{site}/", {"network_map": {"a\x00": "b"}}),
        ("patch", "remote-sites/{site}/", {"container_map": {"a": "b\x00"}}),
        ("patch", "remote-sites/{site}/", {"addresses": [{"host": "h", "control_port": HUGE}]}),
        ("post", "remote-sites/pair/", {"host": "dr.invalid", "code": "c", "control_port": HUGE}),
        ("post", "users/", {"username": "x" * 9999}),
        ("patch", "users/999999999/", {}),
        ("get", "containers/9999999999999999999999/", None),
        ("get", "alerts/9999999999999999999999/", None),
        ("get", "tasks/?object_id=" + "9" * 40, None),
        ("get", "snapshots/?page=" + "9" * 40, None),
        ("get", "snapshots/?page_size=" + "9" * 40, None),
        ("get", "measurements/?since=0001-01-01T00:00:00%2B23:59", None),
        ("get", "users/?is_active=perhaps", None),
        ("delete", "tokens/9999999999999999999999/", None),
        ("delete", "sessions/999999999999999999/", None),
    ],
)
def test_it_refuses_them(client: Client, ids: dict[str, Any], method: str, address: str, body: Any) -> None:
    text = f"/api/v1/{address.format(**ids)}"
    answer = getattr(client, method)(text, *([] if body is None else [body]), content_type="application/json")
    assert answer.status_code in ({200, 404, 422} if method == "get" else {404, 422}), answer.content
