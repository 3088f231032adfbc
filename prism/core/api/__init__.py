# SPDX-License-Identifier: Apache-2.0
"""What all JSON doors share: who asks, one error shape, paging, and the resources of the core."""
