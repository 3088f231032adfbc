# SPDX-License-Identifier: Apache-2.0
"""Control talk between sites: JSON over HTTPS with pinned certificates. Bulk bytes go from engine to engine."""
