# SPDX-License-Identifier: Apache-2.0
"""The crash-state explorer: docs/crash-safety.md."""
