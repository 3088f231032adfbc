# SPDX-License-Identifier: Apache-2.0
"""ETag, If-None-Match and If-Match: at every address, by one mechanism."""

from __future__ import annotations

import uuid
from contextlib import closing
from datetime import UTC, datetime
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.db import connection
from django.test import Client
from django.urls import get_resolver

from dataprotection.models import ProtectionDomain, StorageContainer
from prism.core.actor import Actor
from prism.core.api.resource import Resource
from prism.core.models import Site
from prism.core.services import tokens
from replication.models import RemoteSite
from tests.api.test_api_once import views

pytestmark = pytest.mark.django_db
ACTOR = Actor.cli("test")


@pytest.fixture
def user(db: None) -> User:
    Site.objects.create(pk=1, uuid=uuid.uuid4(), name="site1", cluster_id=1, incarnation_id=2)
    return User.objects.create(username="maria", is_superuser=True)


@pytest.fixture
def client(user: User) -> Client:
    _, text = tokens.create(user=user, name="test", actor=ACTOR)
    return Client(headers={"Authorization": f"Bearer {text}"}, raise_request_exception=False)


@pytest.fixture
def container() -> str:
    return f"containers/{StorageContainer.objects.create(name='default').pk}/"


def read(client: Client, address: str, known: str | None = None) -> Any:
    headers = {} if known is None else {"If-None-Match": known}
    return client.get(f"/api/v1/{address}", headers=headers)


def send(client: Client, method: str, address: str, body: Any = None, **headers: str) -> Any:
    names = {name.replace("_", "-"): value for name, value in headers.items()}
    return getattr(client, method)(f"/api/v1/{address}", body or {}, content_type="application/json", headers=names)


@pytest.mark.parametrize("kind", ["one", "list", "site"])
def test_what_is_known_already_is_not_sent_again(client: Client, container: str, kind: str) -> None:
    address = {"one": container, "list": "containers/", "site": "site/"}[kind]
    first = read(client, address)
    assert first.status_code == 200
    again = read(client, address, first["ETag"])
    assert (again.status_code, again.content, again["ETag"]) == (304, b"", first["ETag"])
    assert "Content-Type" not in again
    for known in ("*", f'"x", {first["ETag"]}', f"W/{first['ETag']}"):
        assert read(client, address, known).status_code == 304
    for known in ('"x"', "x", ""):
        assert read(client, address, known).status_code == 200


def test_what_changed_is_sent(client: Client, container: str) -> None:
    tags = {address: read(client, address)["ETag"] for address in (container, "containers/")}
    StorageContainer.objects.update(compress=False)
    for address, tag in tags.items():
        changed = read(client, address, tag)
        assert (changed.status_code, changed["ETag"] == tag) == (200, False)


def test_a_refusal_has_no_tag(client: Client) -> None:
    assert "ETag" not in read(client, f"containers/{uuid.uuid4()}/", "*")
    assert read(client, f"containers/{uuid.uuid4()}/", "*").status_code == 404


def test_an_answer_is_private_and_asked_for_again(client: Client, container: str) -> None:
    assert read(client, container)["Cache-Control"] == "private, no-cache"
    assert "Authorization" in read(client, container)["Vary"] or "Cookie" in read(client, container)["Vary"]


def test_the_second_of_two_editors_is_told(client: Client, container: str) -> None:
    tag = read(client, container)["ETag"]
    assert send(client, "patch", container, {"compress": False}, If_Match=tag).status_code == 200
    late = send(client, "patch", container, {"fingerprinting": False}, If_Match=tag)
    error = late.json()["error"]
    assert (late.status_code, error["code"]) == (412, "stale")
    assert "changed since you read it" in error["message"]
    assert error["next_step"]
    assert send(client, "delete", container, If_Match=tag).status_code == 412
    assert StorageContainer.objects.get().fingerprinting
    tag = read(client, container)["ETag"]
    assert send(client, "patch", container, {"fingerprinting": False}, If_Match=f'"x", {tag}').status_code == 200


def test_without_the_header_nobody_is_asked(client: Client, container: str) -> None:
    assert send(client, "patch", container, {"compress": False}).status_code == 200
    assert send(client, "patch", container, {"compress": True}, If_Match="*").status_code == 200
    assert send(client, "delete", container).status_code == 204


def test_it_covers_orders_below_an_object(client: Client) -> None:
    domain = ProtectionDomain.objects.create(name="pd")
    address = f"protection-domains/{domain.pk}/"
    tag = read(client, address)["ETag"]
    ProtectionDomain.objects.update(min_snapshots_to_retain=2)
    assert send(client, "post", f"{address}deactivate/", If_Match=tag).status_code == 412
    assert send(client, "post", f"{address}deactivate/", If_Match=read(client, address)["ETag"]).status_code == 202


def test_a_repeated_order_is_answered_as_before_although_it_changed_the_tag(client: Client) -> None:
    domain = ProtectionDomain.objects.create(name="pd")
    address = f"protection-domains/{domain.pk}/"
    headers = {"If_Match": read(client, address)["ETag"], "Idempotency_Key": "k"}
    first = send(client, "post", f"{address}deactivate/", **headers)
    assert first.status_code == 202
    assert send(client, "post", f"{address}deactivate/", **headers).json() == first.json()


def test_a_stale_order_may_be_sent_again_with_its_key(client: Client) -> None:
    domain = ProtectionDomain.objects.create(name="pd")
    address = f"protection-domains/{domain.pk}/"
    assert send(client, "post", f"{address}deactivate/", If_Match='"x"', Idempotency_Key="k").status_code == 412
    assert send(client, "post", f"{address}deactivate/", Idempotency_Key="k").status_code == 202


def test_what_the_site_only_observes_makes_no_order_stale(client: Client) -> None:
    remote = RemoteSite.objects.create(name="s2", addresses=[{"host": "192.0.2.1"}])
    address = f"remote-sites/{remote.uuid}/"
    tag = read(client, address)["ETag"]
    RemoteSite.objects.update(latency_seconds=0.25, last_seen_at=datetime(2026, 1, 1, tzinfo=UTC))
    assert read(client, address, tag).status_code == 200
    assert send(client, "patch", address, {"compress": False}, If_Match=tag).status_code == 200
    assert send(client, "patch", address, {"compress": True}, If_Match=tag).status_code == 412


@pytest.mark.parametrize("address", ["containers/", "integrity/scrub/", "kept-states/1/bring-back/"])
def test_what_has_no_tag_says_so(client: Client, address: str) -> None:
    answer = send(client, "post", address, {"name": "new"}, If_Match='"x"')
    assert (answer.status_code, answer.json()["error"]["code"]) == (412, "stale")
    assert "no ETag" in answer.json()["error"]["message"]


def test_rights_come_before_tags(client: Client, container: str, user: User) -> None:
    user.is_superuser = False
    user.save()
    assert send(client, "patch", container, {"compress": False}, If_Match='"x"').status_code == 403
    assert StorageContainer.objects.get().compress


def test_two_orders_with_a_tag_never_both_pass(client: Client, container: str) -> None:
    """The other one was let in, and has not changed anything yet."""
    tag = read(client, container)["ETag"]
    keys: list[int] = []

    def watch(execute: Any, sql: str, params: Any, many: bool, context: Any) -> Any:
        if "pg_try_advisory_lock" in sql:
            keys.append(params[0])
        return execute(sql, params, many, context)

    with connection.execute_wrapper(watch):
        assert send(client, "patch", container, {"compress": False}, If_Match=tag).status_code == 200
    tag = read(client, container)["ETag"]
    with closing(connection.copy()) as other, other.cursor() as cursor:
        cursor.execute("SELECT pg_advisory_lock(%s)", keys)
        busy = send(client, "patch", container, {"compress": True}, If_Match=tag)
        assert (busy.status_code, busy.json()["error"]["code"]) == (409, "order_under_way")
        assert send(client, "patch", container, {"fingerprinting": True}).status_code == 200
    assert send(client, "patch", container, {"compress": True}, If_Match=tag).status_code == 200


def test_every_view_of_the_api_has_it() -> None:
    found = [(address, view) for address, view in views(get_resolver("prism.api_urls").url_patterns)]
    classes = {view.cls for _, view in found if hasattr(view, "cls")}
    assert len(classes) > 20
    assert [kind for kind in classes if not issubclass(kind, Resource) and kind.__name__ != "SpectacularAPIView"] == []


def test_the_description_names_headers_and_answers(client: Client) -> None:
    paths = client.get("/api/v1/schema/", headers={"accept": "application/vnd.oai.openapi+json"}).json()["paths"]

    def of(path: str, method: str) -> tuple[set[str], set[str]]:
        operation = paths[f"/api/v1/{path}"][method]
        return {row["name"] for row in operation["parameters"] if row["in"] == "header"}, set(operation["responses"])

    for path in ("containers/{id}/", "containers/", "site/"):
        names, answers = of(path, "get")
        assert ("If-None-Match" in names, "304" in answers) == (True, True), path
    for path, method in (("containers/{id}/", "patch"), ("vms/{uuid}/", "delete"), ("vms/{uuid}/disks/", "post")):
        names, answers = of(path, method)
        assert ("If-Match" in names, "412" in answers) == (True, True), path
    assert "If-Match" not in of("containers/", "post")[0]
    assert "If-None-Match" not in of("disks/{uuid}/raw/", "get")[0]
