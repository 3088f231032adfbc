# SPDX-License-Identifier: Apache-2.0
"""Cerebro: the leader that finds due work, and the server that other sites talk to."""
