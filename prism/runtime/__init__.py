# SPDX-License-Identifier: Apache-2.0
"""The embedded runtime: starts, watches and stops every process of the sites on this machine."""
