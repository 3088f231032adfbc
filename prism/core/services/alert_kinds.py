# SPDX-License-Identifier: Apache-2.0
"""What can be wrong, in the documented titles, and what to do about it. Only kinds that can occur now."""

from __future__ import annotations

from typing import NamedTuple

from prism.core.choices import Severity


class AlertKind(NamedTuple):
    title: str
    severity: str
    cause: str
    next_step: str


_C, _W, _I = Severity.CRITICAL, Severity.WARNING, Severity.INFO

KINDS: dict[str, AlertKind] = {
    "replication_failure": AlertKind(
        "Protection Domain Replication Failure",
        _C,
        "The remote site refused the snapshot, or its data could not be read here.",
        "Look at the error of the replication, correct it and take a new snapshot.",
    ),
    "snapshot_failure": AlertKind(
        "Protection Domain Snapshot Failure",
        _C,
        "The block engine could not take the snapshot.",
        "Check that the block engine runs and has space, then take a snapshot by hand.",
    ),
    "receive_failure": AlertKind(
        "Protection Domain Receive Snapshot Failure",
        _C,
        "A snapshot from a remote site could not be stored here.",
        "Check the free space of this site and the alerts of the sending site.",
    ),
    "activation": AlertKind(
        "Protection Domain Activation",
        _I,
        "The protection domain was activated on this site.",
        "Power on the VMs and attach the volume groups; both are left off on purpose.",
    ),
    "change_mode_failure": AlertKind(
        "Protection Domain Change Mode Failure",
        _C,
        "A migration, activation or deactivation did not finish.",
        "Look at the error of the task, remove the obstacle and repeat the order.",
    ),
    "replication_expired": AlertKind(
        "Protection Domain Replication Expired",
        _W,
        "The snapshot reached its expiry while it waited to be replicated.",
        "Check the link to the remote site, or keep snapshots longer.",
    ),
    "snapshot_skipped": AlertKind(
        "Protection Domain Snapshot Operation Skipped",
        _W,
        "A snapshot was due, but the protection domain could not take it then.",
        "Nothing, when the reason has passed: the next one comes by itself.",
    ),
    "replication_skipped": AlertKind(
        "Skipped Replication Of The Snapshot",
        _W,
        "A newer snapshot of the protection domain went first.",
        "Replicate less often, or raise the bandwidth.",
    ),
    "full_replication": AlertKind(
        "Protection Domain Full Replication Performed",
        _I,
        "There was no common snapshot to send a difference against.",
        "Nothing. Keep at least two snapshots on both sites to avoid it.",
    ),
    "rpo_missed": AlertKind(
        "Recovery Point Objective Cannot Be Met",
        _W,
        "The newest replicated snapshot is older than the schedule promises.",
        "Check the link to the remote site and the running replications.",
    ),
    "entities_not_snapshotted": AlertKind(
        "Failed To Snapshot Entities",
        _C,
        "Protected entities no longer exist or their disks are unreadable; the others were snapshotted.",
        "Unprotect the missing entities, or restore them from an older snapshot.",
    ),
    "app_consistency_not_taken": AlertKind(
        "Application Consistent Snapshot Not Taken For The VM",
        _W,
        "There are no guest tools in the VM that could quiesce it; the snapshot is crash consistent.",
        "Use crash consistent snapshots until guest tools are available.",
    ),
    "active_on_multiple_sites": AlertKind(
        "Protection Domain Active On Multiple Sites",
        _C,
        "The protection domain was activated on a remote site while this site could not be reached.",
        "Deactivate it on the site whose data is stale; that site keeps a snapshot of it first.",
    ),
    "activation_not_believed": AlertKind(
        "Activation On Remote Site Not Believed",
        _C,
        "A paired site claims a protection domain in a way that no history of activations explains: it is broken, or "
        "not what it was paired as.",
        "Look at that site. Unpair it if it cannot be trusted; if its claim is true, deactivate the domain here.",
    ),
    "network_mapping_missing": AlertKind(
        "Remote Site Network Mapping Missing",
        _W,
        "A network of the recovered VM has no counterpart here; the network card was left disconnected.",
        "Add the network to the mapping of the remote site, or connect the card by hand.",
    ),
    "remote_site_unhealthy": AlertKind(
        "Remote Site Is Unhealthy",
        _C,
        "The remote site does not answer, or the connection to it is not trusted.",
        "Check that the site runs and that ports 2020 and 2009 are open, then test the connection.",
    ),
    "remote_site_connectivity": AlertKind(
        "Remote Site Connectivity Not Normal",
        _W,
        "Some calls to the remote site fail.",
        "Check the network between the sites.",
    ),
    "large_consistency_group": AlertKind(
        "Protection Domain Contains More Than Specified VMs",
        _W,
        "A consistency group has more than 20 entities.",
        "Split it, unless its members really need one point in time.",
    ),
    "engine_unhealthy": AlertKind(
        "Block Engine Is Unhealthy",
        _C,
        "The block engine is stopped, or frozen after a failed write.",
        "Do what the message says; frozen disks are read-only until the engine is restarted.",
    ),
    "log_damaged": AlertKind(
        "Log Is Damaged",
        _C,
        "A part of the log that was safely stored cannot be read any more: bit rot, a failing medium, or files that "
        "somebody changed. What was written behind it is known to nobody. A restart does not help.",
        "Activate on the other site what is protected; snapshots that are not there yet still go out. Else stop the "
        "engine: `python -m stargate accept-loss --data <folder of the site>` says what is lost and what becomes of "
        "each disk, and does it with --yes. The page Integrity has the details.",
    ),
    "loss_accepted": AlertKind(
        "State Before The Damage Is Kept",
        _W,
        "An operator gave up what a damaged part of the log lost.",
        "On the page Integrity: bring the disks back that are down, or restore their protection domains from a "
        "snapshot. When nothing of that state is needed any more, delete it there; until then it takes space.",
    ),
    "storage_nearly_full": AlertKind(
        "Storage Is Nearly Full",
        _W,
        "Less than 10 % (at most 20 GiB) of the file system under the block engine are free.",
        "Delete snapshots (their dialog says what that gives back) or disks, shorten retentions, or add space.",
    ),
    "storage_full": AlertKind(
        "Storage Is Full",
        _C,
        "Less than 5 % (at most 8 GiB) of the file system under the block engine are free, or a write found no space.",
        "Delete snapshots or disks: that works on a full disk too. Or add space. Nothing needs a restart afterwards.",
    ),
    "damaged_data": AlertKind(
        "Damaged Data Found",
        _C,
        "Stored bytes fail their checksums, and neither this site nor one that shares a snapshot has them whole.",
        "Check the medium of this site. Write the blocks anew, or restore the disk from a snapshot that reads back; "
        "bytes that are sent or written again heal it. `python -m stargate check` says where.",
    ),
}
