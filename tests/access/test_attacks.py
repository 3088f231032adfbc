# SPDX-License-Identifier: Apache-2.0
"""Lists of known attacks against every door they could go through; each has to come to nothing."""

from __future__ import annotations

import re
import uuid
from urllib.parse import urljoin, urlsplit

import pytest
from django.contrib.auth.models import User
from django.test import Client
from django.utils import timezone

from dataprotection import models as dp
from prism.core.exceptions import InvalidInput
from prism.core.models import Alert, ApiToken, AuditRow, Event, Site, Task
from replication.models import RemoteSite
from replication.services import site_rows
from tests.access.conftest import PASSWORD, browser, sign_in
from tests.access.routes import routes, rule_of

pytestmark = pytest.mark.django_db
UNSAFE = [(route, method) for route in routes() for method in route.methods]
SAME_FOR_ALL = {"no-such-address"}

SCRIPTS = [
    template.format(mark=f"xss{number}")
    for number, template in enumerate(
        [
            "<script>{mark}()</script>", "<ScRiPt>{mark}()</sCrIpT>", "<script src=//{mark}.example></script>",
            "<img src=x onerror={mark}()>", "<img/src=x/onerror={mark}()>", "<svg onload={mark}()>",
            "<svg/onload={mark}()>", "<svg><script>{mark}()</script></svg>", "<body onload={mark}()>",
            "<iframe src=javascript:{mark}()>", "<iframe srcdoc='<script>{mark}()</script>'>",
            "<a href=javascript:{mark}()>a</a>", "<a href='java\tscript:{mark}()'>a</a>",
            "<form action=//{mark}><input>",
            "<input autofocus onfocus={mark}()>", "<select autofocus onfocus={mark}()>",
            "<video><source onerror={mark}()>",
            "<audio src=x onerror={mark}()>", "<details open ontoggle={mark}()>", "<marquee onstart={mark}()>",
            "<object data=javascript:{mark}()>", "<embed src=javascript:{mark}()>",
            "<math><mi xlink:href='javascript:{mark}()'>",
            "<meta http-equiv=refresh content='0;url=//{mark}'>", "<base href=//{mark}/>",
            "<link rel=stylesheet href=//{mark}>",
            "<style>@import '//{mark}';</style>", "<div style=background:url(//{mark})>",
            "<template><script>{mark}()</script>",
            "\"><script>{mark}()</script>", "'><script>{mark}()</script>", "\" onmouseover={mark}() x=\"",
            "' onmouseover={mark}() x='", "\" autofocus onfocus={mark}() \"", "</title><script>{mark}()</script>",
            "</textarea><script>{mark}()</script>", "</script><script>{mark}()</script>",
            "--><script>{mark}()</script>",
            "]]><script>{mark}()</script>", "<!--><img src=x onerror={mark}()>", "<<script>{mark}()//<</script>",
            "<script\n>{mark}()</script>", "<script/x>{mark}()</script>", "<button hx-get=//{mark} hx-trigger=load>",
            "<p data-hx-get=//{mark}>", "<x hx-on::load={mark}()>", "{{{{ {mark} }}}}", "{{% include '{mark}' %}}",
            "javascript:{mark}()", "&lt;script&gt;{mark}()&lt;/script&gt;", "\u2028<script>{mark}()</script>",
        ]
    )
]  # fmt: skip
FOREIGN = [
    "http://evil.example/", "https://evil.example", "//evil.example", "///evil.example", "////evil.example",
    "/\\evil.example", "\\\\evil.example", "/\\/evil.example", "\\/evil.example", "https:evil.example",
    "https:/evil.example", "http:///evil.example", "javascript:alert(1)", "JavaScript:alert(1)", "data:text/html,x",
    "vbscript:x", "ftp://evil.example/", " //evil.example", "\t//evil.example", "/\t/evil.example",
    "//evil.example\\@testserver", "https://testserver@evil.example/", "https://testserver.evil.example/",
    "//testserver:80@evil.example", "%2f%2fevil.example", "/%2f/evil.example\r\nSet-Cookie: a=b",
    "/a\r\nLocation: https://evil.example", "http://[::ffff:1.2.3.4]/", "//google%E3%80%82com", "//xn--evil-.example",
]  # fmt: skip
CLIMBS = [
    prefix + body
    for prefix in ("", "/", "/static/", "/static/css/", "/api/v1/", "/data-protection/", "/admin/static/", "/a/b/")
    for body in (
        "../../../../../etc/passwd", "..%2f..%2f..%2fetc%2fpasswd", "..%252f..%252fetc%252fpasswd",
        "....//....//etc/passwd", "..;/..;/etc/passwd", "%2e%2e/%2e%2e/etc/passwd", "%2e%2e%2f%2e%2e%2fetc%2fpasswd",
        "..\\..\\..\\etc\\passwd", "..%5c..%5cetc%5cpasswd", "..%c0%af..%c0%afetc/passwd", "..%ef%bc%8fetc/passwd",
        "%00/etc/passwd", "../manage.py", "../prism/settings.py", "../../identity/secret.key", "..%2fmanage.py",
        "//etc/passwd", "%2fetc%2fpasswd", "file:///etc/passwd", "/proc/self/environ", "../.git/config",
        "..%2f.git%2fconfig", "~root/.ssh/id_rsa", "C:\\windows\\win.ini", "./././../etc/passwd",
    )
]  # fmt: skip
LEAKS = ("root:x:0", "SECRET_KEY", "repositoryformatversion", "DJANGO_SETTINGS_MODULE", "PRIVATE KEY")


@pytest.mark.parametrize("forged", [None, "https://evil.example", "null"])
def test_no_order_goes_without_a_token_of_the_form(admin: User, forged: str | None) -> None:
    strict = Client(enforce_csrf_checks=True, raise_request_exception=False)
    before = AuditRow.objects.count()
    for route, method in UNSAFE:
        strict.force_login(admin)
        headers = {} if forged is None else {"Origin": forged, "Referer": f"{forged}/"}
        answer = getattr(strict, method)(route.address, content_type="application/json", headers=headers)
        if route.name not in SAME_FOR_ALL:
            assert answer.status_code in {403, 405}, (route, answer.status_code)
        assert "_auth_user_id" in strict.session, route
    assert AuditRow.objects.count() == before


def test_the_form_of_sign_in_needs_a_token_too(viewer: User) -> None:
    strict = Client(enforce_csrf_checks=True)
    assert sign_in(strict, "vera").status_code == 403


def _fill(text: str) -> list[str]:
    """The text in everything that people, peers or guests can name; addresses of the pages of these rows."""
    short, long = text[:60], {"object_name": text, "message": text}
    container = dp.StorageContainer.objects.create(name=short)
    vm = dp.VM.objects.create(name=text, container=container)
    dp.VolumeGroup.objects.create(name=text, container=container)
    dp.StoredFile.objects.create(path="/" + text, container=container)
    domain = dp.ProtectionDomain.objects.create(name=short)
    group = dp.ConsistencyGroup.objects.create(domain=domain, name=short)
    dp.ProtectedEntity.objects.create(domain=domain, group=group, entity_type="vm", name=text, vm=vm)
    address = {"host": text, "control_port": 2020, "data_port": 2009}
    site = RemoteSite.objects.create(name=short, site_uuid=uuid.uuid4(), certificate_pem="pinned", addresses=[address])
    values = {"kind": short, "actor": text, "object_name": text, "phase": text[:30]}
    task = Task.objects.create(state="running", started_at=timezone.now(), **values)
    Alert.objects.create(kind="x", severity="critical", title=text, cause=text, next_step=text, dedup_key=text, **long)
    Event.objects.create(kind=short, **long)
    AuditRow.objects.create(
        actor=text, source="api", address=short, verb=short, object_name=text, outcome="ok", detail={text: text}
    )
    user = User.objects.create(username=text)
    ApiToken.objects.create(user=user, name=text, token_hash=uuid.uuid4().hex, prefix="prism_abcdef")
    tabs = [f"/data-protection/domains/{domain.pk}/?tab={tab}" for tab in ("entities", "alerts", "events")]
    own = [f"/data-protection/inventory/vms/{vm.pk}/", f"/data-protection/remote-sites/{site.uuid}/"]
    return [*tabs, *own, f"/tasks/{task.pk}/", f"/users/{user.pk}/"]


def _lists() -> list[str]:
    """Every page of the console that is about no single object."""
    of_console = [route.address for route in routes() if route.name.startswith(("console:", "dp:", "rep:"))]
    return [address for address in of_console if not re.search("0f0f0f0f|999999|log(in|out)", address)]


@pytest.mark.parametrize("first", range(0, len(SCRIPTS), 10))
def test_what_others_wrote_is_text_on_every_page(admin: User, first: int) -> None:
    Site.objects.create(pk=1, uuid=uuid.uuid4(), name=SCRIPTS[first][:60], cluster_id=1, incarnation_id=1)
    pages = [address for text in SCRIPTS[first : first + 10] for address in _fill(text)]
    client = browser(admin)
    client.raise_request_exception = False
    hits, shown = [], 0
    for address in [*_lists(), *pages]:
        page = client.get(address).content.decode()
        shown += len(re.findall(r"xss\d", page))
        tags = re.findall(r"<[A-Za-z!/][^>]*>", re.sub(r'="[^"<>]*"', '=""', page))
        hits += [f"{address}: {tag}" for tag in tags if re.search(r"xss\d", tag)]
        hits += [address for found in re.findall(r'(?:href|src|action)="\s*(\w+):', page) if found == "javascript"]
    assert hits == []
    assert shown > 30 * len(SCRIPTS[first : first + 10]), (
        "the texts were hardly shown anywhere: the test looks at the wrong pages"
    )


@pytest.mark.parametrize("target", FOREIGN)
def test_nothing_leads_to_another_site(viewer: User, target: str) -> None:
    client = browser()
    for answer in (
        sign_in(client, "vera", PASSWORD, next_page=target),
        client.get("/login/", {"next": target}),
        client.post("/theme/", {"theme": "dark", "next": target}),
        browser().get("/admin/login/", {"next": target}),
        browser().post("/logout/", {"next": target}),
    ):
        place = answer.get("Location", "/")
        assert urlsplit(urljoin("https://testserver/login/", place.replace("\\", "/"))).netloc == "testserver", place
        assert not re.search(r"[\r\n\t]|^/[/\\]", place), place
        assert "a=b" not in str(answer.cookies)


def test_the_host_header_is_in_no_answer(viewer: User) -> None:
    client = browser(viewer)
    for address in ("/", "/account/", "/tokens/", "/login/", "/api/v1/tasks/", "/no/such/page/"):
        answer = client.get(address, headers={"Host": "evil.example"})
        assert "evil.example" not in answer.content.decode() + answer.get("Location", "")


def test_no_path_climbs_out(admin: User) -> None:
    assert len(CLIMBS) == 200
    client = browser(admin)
    client.raise_request_exception = False
    for path in CLIMBS:
        answer = client.get("/" + path.lstrip("/"))
        text = b"".join(answer.streaming_content) if answer.streaming else answer.content
        assert not any(leak in text.decode(errors="replace") for leak in LEAKS), path
        assert answer.status_code < 500, path
        if answer.status_code == 302:
            assert answer["Location"].startswith(("/login/", "/")), path


@pytest.mark.parametrize("path", CLIMBS[:25])
def test_no_name_of_a_file_is_a_path_of_the_machine(operator: User, path: str) -> None:
    container = dp.StorageContainer.objects.create(name="default")
    client = browser(operator)
    body = {"path": path, "container": container.pk}
    answer = client.post("/api/v1/files/", body, content_type="application/json")
    assert answer.status_code in {404, 415, 422, 503}, answer.content
    listed = client.get("/api/v1/files/").content.decode()
    assert not any(leak in listed for leak in LEAKS)


NO_HOSTS = [
    "http://169.254.169.254/latest/meta-data/", "https://site.example", "file:///etc/passwd", "//169.254.169.254",
    "gopher://127.0.0.1:6379/_FLUSHALL", "unix:///run/redis.sock", "/run/redis.sock", "evil.example@127.0.0.1",
    "127.0.0.1/..", "127.0.0.1#", "127.0.0.1?a=b", "a b", "a\r\nHost: x", "a\nb", "a\x00b", "", " ",
    "\\\\host\\share", "a%0d%0ab",
]  # fmt: skip


@pytest.mark.parametrize("host", NO_HOSTS)
def test_the_address_of_a_site_is_a_host_and_no_url(host: str) -> None:
    """The one address that an order names. Refused before a name is looked up or a socket is opened."""
    with pytest.raises(InvalidInput):
        site_rows.checked_addresses([{"host": host}])


def test_every_unsafe_route_is_in_the_list() -> None:
    assert len(UNSAFE) > 150
    assert all(rule_of(route) for route, _ in UNSAFE)
