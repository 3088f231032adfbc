# SPDX-License-Identifier: Apache-2.0
"""Scrub, healing, offline check and repair (docs/design/0006)."""
