# SPDX-License-Identifier: Apache-2.0
"""The ordered log in front of everything: every change of every vDisk is a record in it (design note 0002)."""

from stargate.oplog.format import CONTROL, WRITE, ZERO, Append, Appended, LogBatch, LogMark, LogRecord
from stargate.oplog.log import OpLog
from stargate.oplog.reader import LogRangeGone, LogReader

__all__ = [
    "CONTROL",
    "WRITE",
    "ZERO",
    "Append",
    "Appended",
    "LogBatch",
    "LogMark",
    "LogRangeGone",
    "LogReader",
    "LogRecord",
    "OpLog",
]
