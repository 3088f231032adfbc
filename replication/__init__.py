# SPDX-License-Identifier: Apache-2.0
"""Where snapshots go and who does the work: remote sites, pairing, Cerebro and transfers."""
