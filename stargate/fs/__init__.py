# SPDX-License-Identifier: Apache-2.0
"""The one door to files (LAW 5)."""
