# SPDX-License-Identifier: Apache-2.0
"""Atoms of the pages: icons, badges, times, sizes, form fields, table heads. No queries except in `shell`."""

from __future__ import annotations

import uuid
from datetime import UTC, datetime
from typing import Any

from django import template
from django.forms import BoundField
from django.http import HttpRequest
from django.templatetags.static import static
from django.utils.html import format_html, format_html_join
from django.utils.safestring import SafeString

from prism.console.shell import Shell, shell_of, theme_of
from prism.webkit import agents, sizes, states, times
from prism.webkit.access import READ_ONLY_REASON, may_act
from prism.webkit.exports import FORMATS
from prism.webkit.orders import TOKEN_FIELD
from prism.webkit.tables import Table

register = template.Library()


@register.simple_tag
def icon(name: str, css: str = "") -> SafeString:
    """A symbol of static/icons.svg; decoration only, the text beside it says what it means."""
    return format_html(
        '<svg class="icon {}" aria-hidden="true"><use href="{}#{}"></use></svg>', css, static("icons.svg"), name
    )


@register.simple_tag
def badge(state: object, label: str = "") -> SafeString:
    """State as icon + text + colour."""
    shown = states.badge(state)
    return format_html('<span class="badge {}">{}{}</span>', shown.tone, icon(shown.icon), label or shown.label)


@register.simple_tag(takes_context=True)
def when(context: dict[str, Any], at: datetime | None, none: str = "-") -> SafeString:
    """Absolute in the user's zone, relative beside it, ISO with the zone as tooltip; `none` when there is no time."""
    if at is None:
        return format_html('<span class="muted">{}</span>', none)
    local = at.astimezone(times.zone_of(context.get("request")))
    return format_html(
        '<time class="when" datetime="{}" title="{} ({})">{} <small>{}</small></time>',
        local.isoformat(),
        local.isoformat(sep=" ", timespec="seconds"),
        local.tzname() or "",
        times.absolute(at, local.tzinfo or UTC),
        times.relative(at),
    )


@register.simple_tag(takes_context=True)
def since(context: dict[str, Any], at: datetime) -> SafeString:
    """Relative to now where there is no room for more; the absolute time in the user's zone as tooltip."""
    local = at.astimezone(times.zone_of(context.get("request")))
    shown = f"{times.absolute(at, local.tzinfo or UTC)} {local.tzname() or ''}"
    return format_html('<time datetime="{}" title="{}">{}</time>', local.isoformat(), shown, times.relative(at))


@register.filter(name="size")
def size_filter(count: int | float | None) -> str:
    """Bytes with a binary unit."""
    return sizes.size(count)


@register.filter
def task_words(kind: str) -> str:
    """What the task does, in words."""
    return states.task_words(kind)


@register.filter
def words(name: str) -> str:
    """An identifier as words: `replication_completed` -> `Replication completed`."""
    return name.replace("_", " ").capitalize()


@register.filter
def told(value: object) -> str:
    """A value of an audit row's detail, as an operator would say it."""
    if value is None or value == [] or value == "":
        return "none"
    if isinstance(value, bool):
        return "yes" if value else "no"
    return ", ".join(told(part) for part in value) if isinstance(value, list) else str(value)


@register.filter
def octets(fingerprint: str) -> SafeString:
    """A fingerprint that wraps behind a colon, never inside an octet."""
    *firsts, last = fingerprint.split(":")
    return format_html("{}{}", format_html_join("", "{}:<wbr>", ((octet,) for octet in firsts)), last)


@register.filter
def agent_words(agent: str) -> str:
    """Browser and system of a User-Agent header; it is what the client says of itself."""
    return agents.in_words(agent)


@register.filter(name="rate")
def rate_filter(count: int | float | None) -> str:
    """Bytes per second as KBps, MBps."""
    return sizes.rate(count)


@register.filter
def span(seconds: float | None) -> str:
    """Seconds as two units, whole minutes from one on: what is shown on a page that renews itself does not flicker."""
    if seconds is None:
        return "-"
    return times.span(seconds if seconds < 60 else seconds // 60 * 60)


@register.filter
def ago(at: datetime) -> str:
    """Relative to now, for places where the absolute time stands beside it."""
    return times.relative(at)


@register.filter
def ms(seconds: float | None) -> str:
    """A latency in milliseconds."""
    return "-" if seconds is None else f"{seconds * 1000:.1f} ms"


@register.simple_tag
def form_token() -> SafeString:
    """One token per rendered form: the same form sent twice gives one order."""
    return format_html('<input type="hidden" name="{}" value="{}">', TOKEN_FIELD, uuid.uuid4())


@register.inclusion_tag("prism/_field.html")
def field(bound: BoundField, help_text: str = "") -> dict[str, Any]:
    """Label, control, help and messages of one form field, tied together for screen readers."""
    described = [f"{bound.auto_id}-help"] if help_text or bound.help_text else []
    attrs: dict[str, Any] = {}
    if bound.errors:
        attrs["aria-invalid"] = "true"
        described.append(f"{bound.auto_id}-error")
    if described:
        attrs["aria-describedby"] = " ".join(described)
    kind = getattr(bound.field.widget, "input_type", "")
    return {"field": bound, "control": bound.as_widget(attrs=attrs), "help": help_text or bound.help_text, "kind": kind}


@register.inclusion_tag("prism/_th.html")
def th(table: Table, column: str, label: str, css: str = "") -> dict[str, Any]:
    """A column head that sorts."""
    return {
        "table": table,
        "column": column,
        "label": label,
        "css": css,
        "arrow": table.arrow(column),
        "link": table.sort_link(column),
    }


@register.inclusion_tag("prism/_pager.html")
def pager(table: Table, noun: str, plural: str = "") -> dict[str, Any]:
    """`n Snapshots` and the pages."""
    word = noun if table.count == 1 else plural or f"{noun}s"
    return {"table": table, "noun": word, "previous": table.previous_link, "next": table.next_link}


@register.inclusion_tag("prism/_search.html")
def search(table: Table, label: str = "search in table") -> dict[str, Any]:
    """The search field of a table; it keeps the rest of the address."""
    return {"table": table, "label": label}


@register.inclusion_tag("prism/_gear.html")
def gear(table: Table) -> dict[str, Any]:
    """Export of the whole table as CSV or JSON."""
    return {"table": table, "links": [(kind.upper(), table.link(export=kind, page=None)) for kind in FORMATS]}


@register.inclusion_tag("prism/_empty.html", takes_context=True)
def empty(
    context: dict[str, Any], name: str, title: str, text: str, label: str = "", url: str = "", *, dialog: bool = False
) -> dict[str, Any]:
    """An empty table: what belongs here and, for who may order it, a button `label` to the first action at `url`.

    A table that is only empty because of its search says that instead.
    """
    found = context.get("table")
    if isinstance(found, Table) and found.query:
        return {"icon": "search", "title": "Nothing found", "text": f"No row matches “{found.query}”."}
    request: HttpRequest | None = context.get("request")
    allowed = bool(url) and request is not None and may_act(request)
    return {"icon": name, "title": title, "text": text, "label": label, "url": allowed and url, "dialog": dialog}


@register.inclusion_tag("prism/_action.html", takes_context=True)
def action(
    context: dict[str, Any], label: str, url: str, reason: str = "", css: str = "link", symbol: str = ""
) -> dict[str, Any]:
    """A link that opens a dialog; with a `reason` (or read-only rights) it is off and says why."""
    request: HttpRequest | None = context.get("request")
    if request is None or not may_act(request):
        reason = READ_ONLY_REASON
    off = "button off" if css.startswith("button") else "off"
    return {"label": label, "url": url, "reason": reason, "css": css, "off": off, "symbol": symbol}


@register.simple_tag(takes_context=True)
def can_act(context: dict[str, Any]) -> bool:
    """Whether the signed-in user may give orders (the views decide; this only spares him dead buttons)."""
    request: HttpRequest | None = context.get("request")
    return request is not None and may_act(request)


@register.simple_tag(takes_context=True)
def shell(context: dict[str, Any]) -> Shell | None:
    """What the top bar shows; None when nobody is signed in."""
    request: HttpRequest | None = context.get("request")
    return shell_of(request) if request is not None else None


@register.simple_tag(takes_context=True)
def theme(context: dict[str, Any]) -> str:
    """The stored theme, "" for the system's."""
    return theme_of(context.get("request"))
