# SPDX-License-Identifier: Apache-2.0
"""The support bundle: a tar file that tells others what happened here, with nothing in it that would let them in.

Three rules keep secrets out: the folders that hold them are never opened but to know what to look for; of the database
only columns that are named are read; and every text passes `scrub` before it is written.
"""
