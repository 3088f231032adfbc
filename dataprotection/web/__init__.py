# SPDX-License-Identifier: Apache-2.0
"""Pages and dialogs of data protection."""
