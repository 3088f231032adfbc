# SPDX-License-Identifier: Apache-2.0
"""Orders to the engine: JSON lines over a unix socket."""
