# SPDX-License-Identifier: Apache-2.0
"""Inventory pages: VMs, volume groups, files, containers, disks."""
