# SPDX-License-Identifier: Apache-2.0
"""Generated requests at every address of the JSON API of a real site."""
