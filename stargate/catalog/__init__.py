# SPDX-License-Identifier: Apache-2.0
"""The catalog: authority over vDisks, epochs, snapshots, roles, terms and peers."""
