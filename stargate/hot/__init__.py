# SPDX-License-Identifier: Apache-2.0
"""The hot tier: drained single blocks, packed into regions, until their epoch is folded (design note 0002)."""
