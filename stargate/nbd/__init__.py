# SPDX-License-Identifier: Apache-2.0
"""NBD, both ends: the server that guests talk to and a small client for import, export and tests."""
