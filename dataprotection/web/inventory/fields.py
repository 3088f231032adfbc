# SPDX-License-Identifier: Apache-2.0
"""Form fields that the inventory shares."""

from __future__ import annotations

from typing import Any

from django import forms

from dataprotection.models import StorageContainer
from dataprotection.services.disks import SIZE_BYTES_MAX
from prism.webkit.sizes import parse_size, size


class SizeField(forms.CharField):
    """`10 GiB`, `512 MB`, `10G`: cleaned to bytes. Binary units."""

    def __init__(self, *, example: str = "10 GiB", **kwargs: Any) -> None:
        kwargs.setdefault("help_text", f"For example {example}. Binary units: KiB, MiB, GiB, TiB.")
        super().__init__(max_length=32, **kwargs)

    def clean(self, value: Any) -> Any:
        text = super().clean(value)
        if text in self.empty_values:
            return None
        found = parse_size(text)
        if found is None:
            raise forms.ValidationError("This is no size. Write it like 10 GiB or 512 MiB.")
        if not 0 < found <= SIZE_BYTES_MAX:
            raise forms.ValidationError(f"A size is between 1 B and {size(SIZE_BYTES_MAX)}.")
        return found


class ContainerField(forms.ModelChoiceField[StorageContainer]):
    """A choice of storage containers that is never just an empty box."""

    def get_bound_field(self, form: forms.BaseForm, field_name: str) -> forms.BoundField:
        if not StorageContainer.objects.exists():
            self.empty_label = "None yet: create a container first"
            self.widget.choices = self.choices
        return super().get_bound_field(form, field_name)


def container_field() -> ContainerField:
    """Where the disks lie. On a site without any, the empty choice says what to do first."""
    return ContainerField(StorageContainer.objects.all(), label="Storage container", empty_label=None)


def name_field(label: str = "Name") -> forms.CharField:
    """The services check what a name may hold; this only bounds it."""
    return forms.CharField(label=label, max_length=200, widget=forms.TextInput(attrs={"autocomplete": "off"}))
