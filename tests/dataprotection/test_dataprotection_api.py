# SPDX-License-Identifier: Apache-2.0
"""The JSON doors that need the engine: an operator's afternoon over the API."""

from __future__ import annotations

from typing import Any

import pytest
from asgiref.sync import async_to_sync
from django.contrib.auth.models import User
from django.test import Client
from dp_kit import ACTOR, MiB, Queue

from dataprotection.models import StorageContainer
from prism.core.services import tokens
from tests.support.engine_site import EngineSite


@pytest.fixture
def api(container: StorageContainer, engine: EngineSite) -> Client:
    _, text = tokens.create(user=User.objects.create(username="maria", is_superuser=True), name="test", actor=ACTOR)
    return Client(headers={"Authorization": f"Bearer {text}"})


def post(api: Client, address: str, body: dict[str, Any], status: int) -> Any:
    answer = api.post(f"/api/v1/{address}", body, content_type="application/json")
    assert answer.status_code == status, answer.content
    return answer.json()


async def collected(answer: Any) -> bytes:
    return b"".join([part async for part in answer.streaming_content])


def test_it_uploads_and_downloads_a_file(api: Client) -> None:
    data = bytes(range(256)) * 1000
    address = "/api/v1/files/upload/?path=/iso/a.iso&container=default"
    made = api.post(address, data, content_type="application/octet-stream")
    assert made.status_code == 201, made.content
    answer = api.get(f"/api/v1/files/{made.json()['uuid']}/download/")
    assert answer.is_async, "under ASGI all of a plain iterator would be held in memory"
    assert async_to_sync(collected)(answer) == data
    assert answer["Content-Disposition"] == 'attachment; filename="a.iso"'


def test_it_protects_snapshots_and_clones(api: Client, queue: Queue) -> None:
    vm = post(api, "vms/", {"name": "vm1", "container": "default", "disks": [{"size_bytes": MiB}]}, 201)
    assert vm["disks"][0]["nbd_uri"].startswith("nbd://")
    domain = post(api, "protection-domains/", {"name": "pd"}, 201)
    base = f"protection-domains/{domain['uuid']}"
    shown = post(api, f"{base}/protect/", {"entities": [vm["uuid"]]}, 200)
    assert [entity["entity"] for entity in shown["entities"]] == [vm["uuid"]]
    post(api, f"{base}/schedules/", {"type": "MINUTELY", "every_nth": 30}, 422)
    made = post(api, f"{base}/schedules/", {"type": "HOURLY", "every_nth": 1, "local_keep": 6}, 201)
    assert made["text"] == "Every hour"
    order = post(api, f"{base}/take-snapshot/", {"retention_seconds": 3600}, 202)
    queue.run()
    assert api.get(f"/api/v1/tasks/{order['task']['uuid']}/").json()["state"] == "succeeded"
    (row,) = api.get(f"/api/v1/snapshots/?domain={domain['uuid']}").json()["results"]
    key = f"snapshots/{row['uuid']}"
    (entity,) = api.get(f"/api/v1/{key}/recoverability/").json()["entities"]
    assert entity["places"][0]["recoverable"] is True
    task = post(api, f"{key}/clone/", {"vm_prefix": "new-"}, 202)["task"]
    queue.run()
    assert api.get(f"/api/v1/tasks/{task['uuid']}/").json()["state"] == "succeeded"
    assert api.get("/api/v1/vms/?name=new-vm1").json()["count"] == 1
    ranges = api.get(f"/api/v1/{key}/changed-ranges/?disk={vm['disks'][0]['uuid']}")
    assert ranges.status_code == 200, ranges.content
    raw = api.get(f"/api/v1/{key}/disks/{vm['disks'][0]['uuid']}/raw/")
    assert async_to_sync(collected)(raw) == bytes(MiB)
    assert api.get(f"/api/v1/{key}/disks/{domain['uuid']}/raw/").status_code == 422


def test_bytes_are_for_operators_and_a_silent_engine_is_told_as_one(api: Client, queue: Queue, settings: Any) -> None:
    vm = post(api, "vms/", {"name": "vm1", "container": "default", "disks": [{"size_bytes": MiB}]}, 201)
    disk = vm["disks"][0]["uuid"]
    stored = post(api, "files/", {"path": "/a.iso", "container": "default", "size_bytes": 4096}, 201)
    domain = post(api, "protection-domains/", {"name": "pd"}, 201)
    base = f"protection-domains/{domain['uuid']}"
    post(api, f"{base}/protect/", {"entities": [vm["uuid"]]}, 200)
    post(api, f"{base}/take-snapshot/", {}, 202)
    queue.run()
    (row,) = api.get("/api/v1/snapshots/").json()["results"]
    _, text = tokens.create(user=User.objects.create(username="rita"), name="test", actor=ACTOR)
    reader = Client(headers={"Authorization": f"Bearer {text}"})
    urls = [f"disks/{disk}/raw/", f"files/{stored['uuid']}/download/", f"snapshots/{row['uuid']}/disks/{disk}/raw/"]
    for url in urls:
        assert reader.get(f"/api/v1/{url}").status_code == 403, url
        assert api.get(f"/api/v1/{url}").status_code == 200, url
    assert reader.get(f"/api/v1/disks/{disk}/").status_code == 200
    settings.PRISM_RUN_DIR = "/nonexistent"
    for url in urls:
        answer = api.get(f"/api/v1/{url}")
        assert (answer.status_code, answer.json()["error"]["code"]) == (503, "disk_unavailable"), url
