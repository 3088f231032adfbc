# SPDX-License-Identifier: Apache-2.0
"""The content-addressed extent store: immutable chunks and tree nodes, named by their hash."""
