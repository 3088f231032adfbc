# SPDX-License-Identifier: Apache-2.0
"""`make bench`: Stargate beside the servers that people would pick instead, measured in one run. See docs/bench.md."""
