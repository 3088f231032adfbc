# SPDX-License-Identifier: Apache-2.0
"""What the web folders of all apps share: access, pages, forms, tables, times. No models; imports prism.core only."""
