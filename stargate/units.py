# SPDX-License-Identifier: Apache-2.0
"""Binary units and the sizes that are part of every format."""

KiB = 1024
MiB = 1024 * KiB
GiB = 1024 * MiB
TiB = 1024 * GiB

BLOCK_BYTES = 4 * KiB
"""Unit of the log, the hot tier and every checksum."""

CHUNK_BYTES = 64 * KiB
"""Default chunk of the extent store; a property of a vDisk's lineage."""

VDISK_BYTES_MAX = 64 * TiB
"""Largest vDisk: bounds tree depth and every count that a peer may declare."""


def blocks_of(size_bytes: int) -> int:
    """How many 4-KiB blocks hold `size_bytes` (the last one padded with zeros)."""
    return -(-size_bytes // BLOCK_BYTES)
