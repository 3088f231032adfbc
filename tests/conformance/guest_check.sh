#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Process 1 of the guest: writes files with checksums, fsyncs each, and verifies them all. Speaks on the serial console;
# the host listens for lines that begin with GUEST.
mount -t proc proc /proc
mount -t sysfs sys /sys
[ -b /dev/vdb ] || mount -t devtmpfs dev /dev
echo "GUEST up: $(uname -r), $(grep -c . /proc/partitions) partitions"

fail() {
    echo "GUEST FAILED: $*"
    dmesg | tail -n 30
    busybox poweroff -f
}
has_errors() {
    dmesg | grep -iE 'i/o error|ext4-fs (error|warning)|buffer i/o|blocked for more|remounting filesystem read-only'
}

rounds=$(sed -n 's/.*guest_rounds=\([0-9]*\).*/\1/p' /proc/cmdline)
mkfs.ext4 -q -F /dev/vdb || fail "mkfs"
mkdir -p /mnt/data
mount /dev/vdb /mnt/data || fail "mount"
cd /mnt/data || fail "cd"
n=0
while [ "$n" -lt "$rounds" ]; do
    n=$((n + 1))
    dd if=/dev/urandom of="f$n" bs=16k count=$((1 + n * 7 % 40)) conv=fsync 2>/dev/null || fail "write f$n"
    sha256sum "f$n" >>sums || fail "sum f$n"
    dd if="f$n" of="/var/tmp/f$n" bs=64k conv=fsync 2>/dev/null || fail "copy f$n to the root disk"
    sync sums || fail "fsync of sums"
    [ $((n % 5)) -ne 0 ] || rm "/var/tmp/f$((n - 1))"
    echo "GUEST round $n"
done
sync
echo 3 >/proc/sys/vm/drop_caches
sha256sum -c --quiet sums || fail "the data disk holds other bytes"
for copy in /var/tmp/f*; do
    cmp "$copy" "${copy##*/}" || fail "the root disk holds other bytes in $copy"
done
echo "GUEST verified $n files"
has_errors && fail "the kernel saw errors"
cd /
umount /mnt/data || fail "umount"
e2fsck -fn /dev/vdb >/dev/null || fail "e2fsck in the guest"
mount -o remount,ro / || fail "remount of the root disk"
sync
echo "GUEST done"
busybox poweroff -f
