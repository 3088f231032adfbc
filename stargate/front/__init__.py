# SPDX-License-Identifier: Apache-2.0
"""The front: NBD, the log's only writer, reads, markers and fences."""
