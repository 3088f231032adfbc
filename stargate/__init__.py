# SPDX-License-Identifier: Apache-2.0
"""Stargate, the block engine: an ordered log in front of a content-addressed Merkle store.

Plain Python: this package imports no Django, no Celery and no psycopg (LAW 1).
"""
