# SPDX-License-Identifier: Apache-2.0
"""The JSON doors translate, and refuse what the services refuse."""

from __future__ import annotations

import uuid
from pathlib import Path
from typing import Any

import pytest
from django.contrib.auth import get_user_model
from replication_kit import ACTOR, make_site, manifest
from rest_framework.exceptions import PermissionDenied
from rest_framework.test import APIRequestFactory, force_authenticate

from prism.core.exceptions import Conflict, IllegalTransition, InvalidInput
from prism.core.models import AuditRow
from replication.api.views import RemoteSiteViewSet, ReplicationViewSet
from replication.models import RemoteSite
from replication.services import replications

pytestmark = pytest.mark.django_db

BODY = {"name": "Berlin", "addresses": [{"host": "10.0.0.2"}]}


def ask(view: Any, method: str, action: str, body: Any = None, may_act: bool = True, **kwargs: Any) -> Any:
    """One request of a signed-in user, without the URL map."""
    request = getattr(APIRequestFactory(), method)("/", body, format="json")
    user, _ = get_user_model().objects.get_or_create(username="ann", is_superuser=may_act)
    force_authenticate(request, user)
    response = view.as_view({method: action})(request, **kwargs)
    response.render()
    return response


@pytest.fixture(autouse=True)
def _raising(monkeypatch: pytest.MonkeyPatch) -> None:
    """See the refusal itself; its shape is the API root's."""
    for view in (RemoteSiteViewSet, ReplicationViewSet):
        monkeypatch.setattr(view, "handle_exception", lambda _self, error: (_ for _ in ()).throw(error))


def test_it_creates_changes_lists_and_removes_a_site() -> None:
    made = ask(RemoteSiteViewSet, "post", "create", BODY)
    key = made.data["uuid"]
    assert (made.status_code, made.data["status"]) == (201, "NOT_PAIRED")
    assert made.data["addresses"] == [{"host": "10.0.0.2", "control_port": 2020, "data_port": 2009}]
    changed = ask(RemoteSiteViewSet, "patch", "partial_update", {"container_map": {"a": "b"}}, uuid=key)
    assert changed.data["container_map"] == {"a": "b"}
    assert ask(RemoteSiteViewSet, "get", "list").data["count"] == 1
    assert ask(RemoteSiteViewSet, "delete", "destroy", uuid=key).status_code == 204
    assert list(AuditRow.objects.values_list("actor", "source", "verb", "outcome").order_by("id")) == [
        ("ann", "api", "remote_site.create", "ok"),
        ("ann", "api", "remote_site.update", "ok"),
        ("ann", "api", "remote_site.remove", "ok"),
    ]


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"name": "x" * 76}, "name"),
        ({"name": "Bürö"}, "name"),
        ({"name": " "}, "name"),
        ({"addresses": []}, "addresses"),
        ({"addresses": [{"host": "https://x"}]}, "addresses"),
        ({"addresses": [{"host": "x", "control_port": 70000}]}, "addresses"),
        ({"capability": "both"}, "capability"),
        ({"container_map": {"a": ""}}, "container_map"),
        ({"proxy": True}, "proxy"),
        ({"ssh_tunnel": True}, "ssh_tunnel"),
        ({"bandwidth_policy": {"limit": 1}}, "bandwidth_policy"),
    ],
)
def test_it_refuses_bad_fields_and_changes_nothing(change: dict[str, Any], field: str) -> None:
    from replication.services import remote_sites

    with pytest.raises(InvalidInput) as refused:
        remote_sites.create(actor=ACTOR, **{**BODY, **change})
    assert refused.value.field == field
    assert not RemoteSite.objects.exists()
    assert AuditRow.objects.get().outcome == "refused"


def test_it_refuses_a_second_site_of_that_name() -> None:
    ask(RemoteSiteViewSet, "post", "create", BODY)
    with pytest.raises(InvalidInput, match="already"):
        ask(RemoteSiteViewSet, "post", "create", BODY)


def test_it_lets_readers_read_only() -> None:
    assert ask(RemoteSiteViewSet, "get", "list", may_act=False).data["count"] == 0
    with pytest.raises(PermissionDenied):
        ask(RemoteSiteViewSet, "post", "create", BODY, may_act=False)
    assert not RemoteSite.objects.exists()


def test_it_shows_a_pairing_code(local: Any) -> None:
    shown = ask(RemoteSiteViewSet, "post", "pairing_code")
    assert (shown.status_code, len(shown.data["code"]), len(shown.data["fingerprint"])) == (201, 19, 95)


def test_it_lists_pauses_resumes_and_aborts_replications(engine: Any, sent: list[str], tmp_path: Path) -> None:
    site, described = make_site(tmp_path), manifest(1, domain=uuid.uuid4())
    row = replications.request(
        snapshot_uuid=described["snapshot"]["uuid"],
        manifest=described,
        site=site,
        retention_seconds=None,
        hidden_base=False,
        actor=ACTOR,
    )
    for action, state in [("pause", "PAUSED"), ("resume", "PENDING"), ("abort", "ABORTED")]:
        assert ask(ReplicationViewSet, "post", action, uuid=row.uuid).data["state"] == state
    with pytest.raises(IllegalTransition):
        ask(ReplicationViewSet, "post", "resume", uuid=row.uuid)
    (shown,) = ask(ReplicationViewSet, "get", "list").data["results"]
    assert shown["site_name"] == "remote"
    assert not {"manifest", "session", "owner"} & set(shown)


def test_it_keeps_a_site_with_outstanding_replications(engine: Any, sent: list[str], tmp_path: Path) -> None:
    site, described = make_site(tmp_path), manifest(1, domain=uuid.uuid4())
    replications.request(
        snapshot_uuid=described["snapshot"]["uuid"],
        manifest=described,
        site=site,
        retention_seconds=60,
        hidden_base=False,
        actor=ACTOR,
    )
    with pytest.raises(Conflict, match="outstanding"):
        ask(RemoteSiteViewSet, "delete", "destroy", uuid=site.uuid)
