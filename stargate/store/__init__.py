# SPDX-License-Identifier: Apache-2.0
"""The store process: catalog, drain, fold, sweep, and the port for other sites."""
