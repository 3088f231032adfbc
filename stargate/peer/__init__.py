# SPDX-License-Identifier: Apache-2.0
"""Bytes between sites: identity and pairing proofs, the frames on port 2009, the sync of a version."""
