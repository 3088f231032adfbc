# SPDX-License-Identifier: Apache-2.0
"""`make crash-mutants`: rules of the engine broken on purpose, each of which must be caught (docs/crash-safety.md)."""
