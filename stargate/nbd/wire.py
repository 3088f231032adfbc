# SPDX-License-Identifier: Apache-2.0
"""Numbers and layouts of the NBD protocol (fixed newstyle); everything is big endian.

Only what both ends need; no behaviour. Names follow the protocol document without the `NBD_` prefix.
"""

from __future__ import annotations

from struct import Struct

# Handshake
INIT_MAGIC = 0x4E42444D41474943  # "NBDMAGIC"
OPTION_MAGIC = 0x49484156454F5054  # "IHAVEOPT"
OPTION_REPLY_MAGIC = 0x0003E889045565A9

FLAG_FIXED_NEWSTYLE = 1
FLAG_NO_ZEROES = 2

OPT_EXPORT_NAME = 1
OPT_ABORT = 2
OPT_LIST = 3
OPT_STARTTLS = 5
OPT_INFO = 6
OPT_GO = 7
OPT_STRUCTURED_REPLY = 8
OPT_LIST_META_CONTEXT = 9
OPT_SET_META_CONTEXT = 10

REP_ACK = 1
REP_SERVER = 2
REP_INFO = 3
REP_META_CONTEXT = 4
REP_ERROR_BIT = 1 << 31
REP_ERR_UNSUP = REP_ERROR_BIT | 1
REP_ERR_POLICY = REP_ERROR_BIT | 2
REP_ERR_INVALID = REP_ERROR_BIT | 3
REP_ERR_TLS_REQD = REP_ERROR_BIT | 5
REP_ERR_UNKNOWN = REP_ERROR_BIT | 6
REP_ERR_SHUTDOWN = REP_ERROR_BIT | 7
REP_ERR_TOO_BIG = REP_ERROR_BIT | 9

INFO_EXPORT = 0
INFO_NAME = 1
INFO_DESCRIPTION = 2
INFO_BLOCK_SIZE = 3

# Transmission flags of an export
EXPORT_HAS_FLAGS = 1 << 0
EXPORT_READ_ONLY = 1 << 1
EXPORT_SEND_FLUSH = 1 << 2
EXPORT_SEND_FUA = 1 << 3
EXPORT_SEND_TRIM = 1 << 5
EXPORT_SEND_WRITE_ZEROES = 1 << 6
EXPORT_SEND_DF = 1 << 7
EXPORT_CAN_MULTI_CONN = 1 << 8
EXPORT_SEND_CACHE = 1 << 10
EXPORT_SEND_FAST_ZERO = 1 << 11

# Transmission
REQUEST_MAGIC = 0x25609513
SIMPLE_REPLY_MAGIC = 0x67446698
CHUNK_MAGIC = 0x668E33EF

CMD_READ = 0
CMD_WRITE = 1
CMD_DISC = 2
CMD_FLUSH = 3
CMD_TRIM = 4
CMD_CACHE = 5
CMD_WRITE_ZEROES = 6
CMD_BLOCK_STATUS = 7

CMD_FLAG_FUA = 1 << 0
CMD_FLAG_NO_HOLE = 1 << 1
CMD_FLAG_DF = 1 << 2
CMD_FLAG_REQ_ONE = 1 << 3
CMD_FLAG_FAST_ZERO = 1 << 4

CHUNK_FLAG_DONE = 1
CHUNK_NONE = 0
CHUNK_OFFSET_DATA = 1
CHUNK_OFFSET_HOLE = 2
CHUNK_BLOCK_STATUS = 5
CHUNK_ERROR_BIT = 1 << 15
CHUNK_ERROR = CHUNK_ERROR_BIT | 1
CHUNK_ERROR_OFFSET = CHUNK_ERROR_BIT | 2

STATE_HOLE = 1
STATE_ZERO = 2
BASE_ALLOCATION = "base:allocation"
BASE_ALLOCATION_ID = 1

EPERM = 1
EIO = 5
ENOMEM = 12
EINVAL = 22
ENOSPC = 28
EOVERFLOW = 75
ENOTSUP = 95
ESHUTDOWN = 108

# Layouts
GREETING = Struct(">QQH")
CLIENT_FLAGS = Struct(">I")
OPTION = Struct(">QII")  # magic, option, data length
OPTION_REPLY = Struct(">QIII")  # magic, option, reply, data length
EXPORT_INFO = Struct(">HQH")  # INFO_EXPORT, size, transmission flags
BLOCK_SIZE_INFO = Struct(">HIII")  # INFO_BLOCK_SIZE, minimum, preferred, maximum
OLD_EXPORT = Struct(">QH")  # answer to EXPORT_NAME: size, transmission flags
U16 = Struct(">H")
U32 = Struct(">I")
REQUEST = Struct(">IHH8sQI")  # magic, flags, command, cookie, offset, length
SIMPLE_REPLY = Struct(">II8s")  # magic, error, cookie
CHUNK = Struct(">IHH8sI")  # magic, flags, type, cookie, data length
DATA_CHUNK = Struct(">IHH8sIQ")  # a CHUNK followed by the offset of its data
ERROR_CHUNK = Struct(">IH")  # error, text length
EXTENT = Struct(">II")  # length, state flags

EXPORT_NAME_PADDING = bytes(124)

# Limits of ours
MAX_NAME_BYTES = 255
"""Longer export names are refused. The protocol allows 4096; none of ours comes near 255."""
MAX_OPTION_BYTES = 8192
"""Longer option data is skipped unread and answered TOO_BIG."""
MAX_TEXT_BYTES = 4096
"""Longest string the protocol lets us send."""
MAX_SKIPPED_OPTION_BYTES = 1 << 20
"""Beyond this a peer is not talking NBD; it is disconnected."""
MAX_OPTIONS = 4096
"""Options per connection; `qemu-nbd --list` asks one per export."""
MINIMUM_BLOCK_BYTES = 1
PREFERRED_BLOCK_BYTES = 4096
MAXIMUM_PAYLOAD_BYTES = 32 << 20
"""Advertised maximum of a READ or WRITE; the payload of a larger WRITE is skipped, the answer is EINVAL."""
MAX_STATUS_BYTES = 128 << 20
"""One BLOCK_STATUS answer describes at most this much; it may be shorter than the question, the client asks on."""
MAX_STATUS_EXTENTS = 8192
