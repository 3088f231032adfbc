# SPDX-License-Identifier: Apache-2.0
"""Prism DR: the project package. Holds settings, urls, the Celery app, `core` and the embedded runtime."""
