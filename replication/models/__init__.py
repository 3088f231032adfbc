# SPDX-License-Identifier: Apache-2.0
"""Tables of the replication app: data and constraints, no I/O."""

from replication.models.leader import LeaderState
from replication.models.pairing import PairingCode
from replication.models.remote_site import RemoteSite
from replication.models.replication import Replication, ReplicationTransition

__all__ = ["LeaderState", "PairingCode", "RemoteSite", "Replication", "ReplicationTransition"]
