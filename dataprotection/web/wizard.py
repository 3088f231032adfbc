# SPDX-License-Identifier: Apache-2.0
"""+ Protection Domain -> Async DR: Name, Entities, Schedule. Update opens the same steps."""

from __future__ import annotations

from typing import Any
from uuid import UUID

from django import forms
from django.http import HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404
from django.urls import reverse

from dataprotection.choices import EntityType
from dataprotection.models import ConsistencyGroup, ProtectedEntity, ProtectionDomain, StorageContainer
from dataprotection.services import domains as domain_services
from dataprotection.services import protection
from dataprotection.web.entities import entities_by_key, unprotected
from prism.webkit.access import operator
from prism.webkit.orders import Done, actor_of, order_page, posted, press
from prism.webkit.pages import show

GROUP_MODES = [("entity_name", "Use Entity Name"), ("existing", "Use an existing CG"), ("new", "Create a new CG")]
LISTED_MAX = 500
"""Rows of either side of the Entities step, so many as one form may tick; the rest comes with the filters."""


class NameForm(forms.Form):
    name = forms.CharField(
        label="Name",
        max_length=200,
        widget=forms.TextInput(attrs={"autofocus": True, "autocomplete": "off"}),
        help_text="At most 75 characters: letters, digits, dot, hyphen, underscore. "
        "The same name is used on every remote site.",
    )


class EntityKeys(forms.MultipleChoiceField):
    """Keys of `EntityRow`. Whether each is still there and still free is seen when the order is given."""

    def valid_value(self, value: Any) -> bool:
        try:
            return bool(UUID(str(value).partition(":")[2]))
        except ValueError:
            return False


class ProtectForm(forms.Form):
    """What the left side of the Entities step sends."""

    entities = EntityKeys(error_messages={"required": "Tick at least one entity in the list of unprotected entities."})
    group_mode = forms.ChoiceField(
        label="Pick a Consistency Group", choices=GROUP_MODES, initial="entity_name", widget=forms.RadioSelect
    )
    existing_group = forms.ChoiceField(label="Existing CG", required=False)
    new_group = forms.CharField(label="New CG", required=False, max_length=200)
    app_consistent = forms.BooleanField(
        label="Use application consistent snapshots",
        required=False,
        help_text="One VM per group. The wish is stored; snapshots are crash consistent "
        "until guest tools exist, and the table says which you got.",
    )
    related = forms.BooleanField(
        label="Auto protect related entities",
        required=False,
        help_text="Volume groups that are attached to a selected VM come along.",
    )

    def __init__(self, *args: Any, groups: list[str], **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        existing = self.fields["existing_group"]
        if isinstance(existing, forms.ChoiceField):
            existing.choices = [("", "Choose ..."), *((name, name) for name in groups)]

    def clean(self) -> dict[str, Any]:
        data = super().clean() or self.cleaned_data
        mode = data.get("group_mode")
        if mode == "existing" and not data.get("existing_group"):
            self.add_error("existing_group", "Choose the group that the entities join.")
        if mode == "new" and not data.get("new_group"):
            self.add_error("new_group", "Name the new group.")
        return data

    @property
    def group_name(self) -> str:
        """The group that was named, "" for Use Entity Name."""
        mode = self.cleaned_data["group_mode"]
        return str(
            {"existing": self.cleaned_data["existing_group"], "new": self.cleaned_data["new_group"]}.get(mode, "")
        )


@operator
def new(request: HttpRequest) -> HttpResponse:
    """Step Name. The domain exists from Create on."""

    def order(data: dict[str, Any], _key: str) -> Done:
        made = domain_services.create(name=data["name"], actor=actor_of(request))
        return Done(reverse("dp:wizard-entities", args=[made.pk]), f"Protection domain {made.name} was created.")

    context = {"nav": "Data Protection", "step": 1}
    return order_page(
        request,
        "dataprotection/wizard_name.html",
        NameForm(posted(request)),
        order,
        context,
        again_url=reverse("dp:domains"),
    )


def _entities_context(request: HttpRequest, domain: ProtectionDomain) -> dict[str, Any]:
    name, entity_type = request.GET.get("name", "")[:100], request.GET.get("type", "")
    protected_name, group_name = request.GET.get("pname", "")[:100], request.GET.get("pcg", "")[:100]
    members = domain.entities.select_related("group").filter(
        name__icontains=protected_name, group__name__icontains=group_name
    )
    listed = unprotected(name=name, entity_type=entity_type, limit=LISTED_MAX + 1)
    shown = list(members[: LISTED_MAX + 1])
    return {
        "nav": "Data Protection",
        "step": 2,
        "domain": domain,
        "types": EntityType.choices,
        "listed": listed[:LISTED_MAX],
        "more_listed": len(listed) > LISTED_MAX,
        "members": shown[:LISTED_MAX],
        "more_members": len(shown) > LISTED_MAX,
        "filter": {"name": name, "type": entity_type, "pname": protected_name, "pcg": group_name},
    }


@operator
def entities(request: HttpRequest, uuid: UUID) -> HttpResponse:
    """Step Entities: Unprotected on the left, Protected on the right."""
    domain = get_object_or_404(ProtectionDomain, pk=uuid)
    context = _entities_context(request, domain)
    groups = list(ConsistencyGroup.objects.filter(domain=domain).values_list("name", flat=True))
    sent = posted(request)
    form = ProtectForm(sent, groups=groups)
    context["ticked"] = request.POST.getlist("entities")

    def order(data: dict[str, Any], _key: str) -> Done:
        chosen = entities_by_key(data["entities"])
        protection.protect(
            domain,
            entities=chosen,
            group_mode=data["group_mode"],
            group_name=form.group_name,
            app_consistent=data["app_consistent"],
            related=data["related"],
            actor=actor_of(request),
        )
        return Done(
            request.get_full_path(),
            f"{len(chosen)} {'entity is' if len(chosen) == 1 else 'entities are'} now protected.",
        )

    return order_page(
        request, "dataprotection/wizard_entities.html", form, order, context, again_url=request.get_full_path()
    )


class ContainerForm(forms.Form):
    container = forms.ModelChoiceField(
        StorageContainer.objects.all(),
        label="Storage container",
        empty_label="Choose ...",
        error_messages={"required": "Choose the container."},
    )


@operator
def protect_container(request: HttpRequest, uuid: UUID) -> HttpResponse:
    """Protect a full container: what it holds, and whatever is created in it later."""
    domain = get_object_or_404(ProtectionDomain, pk=uuid)
    back = reverse("dp:wizard-entities", args=[uuid])

    def order(data: dict[str, Any], _key: str) -> Done:
        container = data["container"]
        made = protection.protect_container(domain, container=container, actor=actor_of(request))
        count = f"{len(made)} {'entity' if len(made) == 1 else 'entities'}"
        return Done(back, f"The container {container.name} is now protected: {count}, and what is created in it later.")

    context = {"nav": "Data Protection", "domain": domain, "back": back}
    form = ContainerForm(posted(request))
    return order_page(request, "dataprotection/protect_container.html", form, order, context, again_url=back)


@operator
def unprotect(request: HttpRequest, uuid: UUID) -> HttpResponse:
    """‹ Unprotect Selected Entities: they leave the domain; their snapshots stay. GET asks, from the Entities tab."""
    domain = get_object_or_404(ProtectionDomain, pk=uuid)
    keys = [key for key in (request.POST.getlist("members") or request.GET.getlist("members")) if key.isdigit()]
    chosen = list(ProtectedEntity.objects.filter(domain=domain, pk__in=keys).select_related("group"))
    back = (
        reverse("dp:wizard-entities", args=[uuid])
        if request.POST.get("wizard")
        else reverse("dp:domain", args=[uuid]) + "?tab=entities"
    )
    if request.method != "POST":
        return show(
            request,
            "dataprotection/unprotect.html",
            {"nav": "Data Protection", "domain": domain, "chosen": chosen, "back": back},
        )

    def order(_key: str) -> str:
        protection.unprotect(domain, entities=chosen, actor=actor_of(request))
        return f"{len(chosen)} {'entity' if len(chosen) == 1 else 'entities'} unprotected. Snapshots taken so far stay."

    return press(request, back, order)


class GroupForm(forms.Form):
    app_consistent = forms.BooleanField(
        label="Use application consistent snapshots",
        required=False,
        help_text="One VM and nothing else in the group. The wish is stored; snapshots are crash consistent until "
        "guest tools exist, and an alert says so.",
    )


@operator
def group(request: HttpRequest, pk: int) -> HttpResponse:
    """Change the wish of a consistency group; it holds from the next snapshot on."""
    found = get_object_or_404(ConsistencyGroup.objects.select_related("domain"), pk=pk)
    back = reverse("dp:domain", args=[found.domain_id]) + "?tab=entities"

    def order(data: dict[str, Any], _key: str) -> Done:
        protection.set_app_consistent(found, app_consistent=data["app_consistent"], actor=actor_of(request))
        return Done(back, f"Consistency group {found.name} was changed. It holds from the next snapshot on.")

    context = {"nav": "Data Protection", "heading": f"Consistency group {found.name}", "back": back}
    form = GroupForm(posted(request), initial={"app_consistent": found.app_consistent})
    return order_page(request, "dataprotection/inventory/form.html", form, order, context, again_url=back)


@operator
def schedules(request: HttpRequest, uuid: UUID) -> HttpResponse:
    """Step Schedule: the list with New Schedule and Close."""
    domain = get_object_or_404(ProtectionDomain, pk=uuid)
    context = {
        "nav": "Data Protection",
        "step": 3,
        "domain": domain,
        "schedules": domain.schedules.prefetch_related("remotes__site"),
    }
    return show(request, "dataprotection/wizard_schedules.html", context)
