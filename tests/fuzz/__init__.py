# SPDX-License-Identifier: Apache-2.0
"""Hostile NBD clients and hostile paired sites against a real engine: `make fuzz MESSAGES=200000`."""
