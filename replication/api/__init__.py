# SPDX-License-Identifier: Apache-2.0
"""JSON doors of the replication app."""
