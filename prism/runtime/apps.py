# SPDX-License-Identifier: Apache-2.0
"""App of the embedded runtime: it has commands, no models."""

from django.apps import AppConfig


class RuntimeConfig(AppConfig):
    name = "prism.runtime"
    label = "runtime"
