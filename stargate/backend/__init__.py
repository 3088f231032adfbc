# SPDX-License-Identifier: Apache-2.0
"""Where the bytes of versions are kept: one protocol, several backends."""
