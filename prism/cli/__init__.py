# SPDX-License-Identifier: Apache-2.0
"""`prism`: the command-line client. It speaks to a site's JSON API only, and imports no Django and no engine."""
