# SPDX-License-Identifier: Apache-2.0
"""One error shape, tokens, paging, idempotency."""

from __future__ import annotations

import re
import uuid
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.test import Client

from dataprotection.models import ProtectionDomain, StorageContainer
from prism.core.actor import Actor
from prism.core.api.examples import EXAMPLES
from prism.core.models import AuditRow, Site, Task
from prism.core.services import tasks, tokens

ACTOR = Actor.cli("test")


@pytest.fixture
def user(db: None) -> User:
    Site.objects.create(pk=1, uuid=uuid.uuid4(), name="site1", cluster_id=1, incarnation_id=2)
    return User.objects.create(username="maria", is_superuser=True)


@pytest.fixture
def client(user: User) -> Client:
    _, text = tokens.create(user=user, name="test", actor=ACTOR)
    return Client(headers={"Authorization": f"Bearer {text}"}, raise_request_exception=False)


def post(client: Client, address: str, body: dict[str, Any] | None = None, **headers: str) -> Any:
    return client.post(f"/api/v1/{address}", body or {}, content_type="application/json", headers=headers)


def error_of(answer: Any, status: int) -> dict[str, Any]:
    """The body must have exactly the documented shape."""
    assert answer.status_code == status, answer.content
    error: dict[str, Any] = answer.json()["error"]
    assert {"code", "message", "next_step", "fields", "request_id"} <= set(error)
    assert error["message"]
    assert re.fullmatch(r"[0-9a-f]{32}", error["request_id"])
    return error


def test_it_answers_401_without_and_with_a_wrong_token(user: User) -> None:
    error = error_of(Client().get("/api/v1/tasks/"), 401)
    assert error["next_step"]
    error_of(Client(headers={"Authorization": "Bearer prism_wrong"}).get("/api/v1/tasks/"), 401)


def test_it_takes_the_session_of_the_console(user: User) -> None:
    client = Client()
    client.force_login(user)
    assert client.get("/api/v1/site/").json()["name"] == "site1"


def test_it_refuses_a_revoked_token(client: Client, user: User) -> None:
    tokens.revoke(user.api_tokens.get(), actor=ACTOR)
    error_of(client.get("/api/v1/tasks/"), 401)


def test_it_answers_404_for_objects_and_for_addresses(client: Client) -> None:
    error_of(client.get(f"/api/v1/vms/{uuid.uuid4()}/"), 404)
    error_of(client.get("/api/v1/vms/not-a-uuid/"), 404)
    error_of(client.get("/api/v1/nothing/here"), 404)


def test_it_answers_405(client: Client) -> None:
    answer = client.put("/api/v1/tasks/", {}, content_type="application/json")
    error_of(answer, 405)
    assert "GET" in answer["Allow"]


def test_it_answers_422_with_the_field(client: Client) -> None:
    assert error_of(post(client, "protection-domains/"), 422)["fields"] == {"name": ["This field is required."]}
    error = error_of(post(client, "protection-domains/", {"name": "ä"}), 422)
    assert "foreign" in error["message"]
    assert list(error["fields"]) == ["name"]
    assert error["next_step"].startswith("Use letters")


def test_it_answers_400_for_a_body_that_is_not_json(client: Client) -> None:
    error_of(client.post("/api/v1/protection-domains/", "{", content_type="application/json"), 400)


def test_it_answers_409_with_state_and_event(client: Client) -> None:
    ProtectionDomain.objects.create(name="pd")
    key = ProtectionDomain.objects.get().pk
    error = error_of(post(client, f"protection-domains/{key}/activate/"), 409)
    assert (error["code"], error["state"], error["event"]) == ("illegal_transition", "ACTIVE", "ACTIVATE")


def test_it_answers_500_without_details(client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    from dataprotection.services import domains

    def broken(**_kwargs: object) -> None:
        raise RuntimeError("secret words")

    monkeypatch.setattr(domains, "create", broken)
    answer = post(client, "protection-domains/", {"name": "pd"})
    error_of(answer, 500)
    assert b"secret" not in answer.content


def test_it_answers_503_when_the_engine_is_away(client: Client, tmp_path: Any, settings: Any) -> None:
    settings.PRISM_RUN_DIR = tmp_path
    StorageContainer.objects.create(name="default")
    error = error_of(post(client, "vms/", {"name": "v", "container": "default", "disks": [{"size_bytes": 1}]}), 503)
    assert error["code"] == "unavailable"
    assert client.get("/api/v1/vms/").json()["count"] == 0
    assert AuditRow.objects.filter(verb="vm.create", outcome="failed", source="api", actor="maria").exists()


def test_it_pages_and_filters(client: Client) -> None:
    for number in range(5):
        tasks.create("demo", actor=ACTOR, object_id=number)
    answer = client.get("/api/v1/tasks/?page_size=2&page=2").json()
    assert (answer["count"], len(answer["results"])) == (5, 2)
    assert client.get("/api/v1/tasks/?object_id=3").json()["count"] == 1
    error_of(client.get("/api/v1/snapshots/?domain=zzz"), 422)


def test_it_gives_the_same_task_for_the_same_key(client: Client, settings: Any) -> None:
    domain = ProtectionDomain.objects.create(name="pd")
    first = post(client, f"protection-domains/{domain.pk}/deactivate/", **{"Idempotency-Key": "a"})
    again = post(client, f"protection-domains/{domain.pk}/deactivate/", **{"Idempotency-Key": "a"})
    assert first.status_code == again.status_code == 202
    assert first.json()["task"]["uuid"] == again.json()["task"]["uuid"]
    assert first["Location"] == f"/api/v1/tasks/{first.json()['task']['uuid']}/"
    assert Task.objects.count() == 1
    error_of(post(client, f"protection-domains/{domain.pk}/deactivate/", **{"Idempotency-Key": "b"}), 409)


def test_it_shows_a_token_once(client: Client) -> None:
    made = post(client, "tokens/", {"name": "ci"}).json()
    assert made["token"].startswith("prism_")
    listed = client.get("/api/v1/tokens/").json()["results"]
    assert all("token" not in row and "token_hash" not in row for row in listed)


def test_it_describes_itself(client: Client) -> None:
    answer = client.get("/api/v1/schema/")
    assert answer.status_code == 200
    for verb in (b"migrate", b"take-snapshot", b"activate", b"deactivate", b"restore", b"clone", b"protect"):
        assert b"/" + verb + b"/" in answer.content


def test_the_description_names_the_filters_of_each_list(client: Client) -> None:
    paths = client.get("/api/v1/schema/?format=json", headers={"accept": "application/vnd.oai.openapi+json"}).json()[
        "paths"
    ]
    asked = {row["name"] for row in paths["/api/v1/snapshots/"]["get"]["parameters"]}
    assert {"domain", "state", "kind", "id", "page"} <= asked
    assert "domain" not in {row["name"] for row in paths["/api/v1/containers/"]["get"]["parameters"]}


def test_the_description_shows_every_refusal(client: Client) -> None:
    """Each operation names the statuses it refuses with, each with the one shape and an example of it."""
    found = client.get("/api/v1/schema/", headers={"accept": "application/vnd.oai.openapi+json"}).json()
    for path, operations in found["paths"].items():
        for method, operation in operations.items():
            wanted = {"401", "403", "404", "422"} | ({"409"} if method != "get" else set())
            wanted |= {"400", "415"} if "requestBody" in operation else set()
            assert wanted <= set(operation["responses"]), f"{method} {path}"
    answers = found["components"]["responses"]
    assert len(answers) > 10
    for name, answer in answers.items():
        error = answer["content"]["application/json"]["example"]["error"]
        assert {"code", "message", "next_step", "fields", "request_id"} <= set(error), name
        assert error["message"], name


def test_the_description_shows_each_body_by_an_example_of_its_shape(client: Client) -> None:
    found = client.get("/api/v1/schema/", headers={"accept": "application/vnd.oai.openapi+json"}).json()
    shown = set()
    for path, operations in found["paths"].items():
        for method, operation in operations.items():
            body = operation.get("requestBody", {}).get("content", {}).get("application/json")
            if body is None:
                continue
            name = body["schema"]["$ref"].rpartition("/")[2]
            shape = found["components"]["schemas"][name]
            assert set(body["example"]) <= set(shape["properties"]), f"{method} {path}"
            assert set(shape.get("required", [])) <= set(body["example"]), f"{method} {path}"
            shown.add(name)
    assert shown == set(EXAMPLES)


def test_an_order_that_takes_longer_is_described_as_it_is_answered(client: Client) -> None:
    domain = ProtectionDomain.objects.create(name="pd")
    answer = post(client, f"protection-domains/{domain.pk}/deactivate/")
    found = client.get("/api/v1/schema/", headers={"accept": "application/vnd.oai.openapi+json"}).json()
    operation = found["paths"]["/api/v1/protection-domains/{uuid}/deactivate/"]["post"]
    name = operation["responses"]["202"]["content"]["application/json"]["schema"]["$ref"].rpartition("/")[2]
    assert set(found["components"]["schemas"][name]["required"]) == set(answer.json()) == {"task"}
    assert found["components"]["schemas"]["Domain"]["properties"]["whole_container"]["nullable"] is True
    assert "200" in found["paths"]["/api/v1/nbd-clients/{name}/"]["delete"]["responses"]
