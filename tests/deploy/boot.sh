#!/bin/sh
# boot.sh DIRECTORY PROJECT: this machine's file system, without what is enabled on it, as another host that boots systemd.
# Runs as the first process of its own mount, process, control group, IPC and UTS namespaces. Nothing that it writes stays.
set -eu

# The working directory would be one of the file system below.
cd "$1"
mount -t tmpfs -o mode=755 tmpfs .
cd "$1"
mkdir upper work root
root=$1/root
mount -t overlay -o "lowerdir=/,upperdir=$1/upper,workdir=$1/work" overlay "$root"
mount -t proc proc "$root/proc"
# Settings of the machine's kernel, but for those of our own network, are none of this host's.
mount --bind "$root/proc/sys" "$root/proc/sys"
mount -o remount,bind,ro "$root/proc/sys"
mount -t sysfs -o ro sysfs "$root/sys"
mount -t cgroup2 cgroup2 "$root/sys/fs/cgroup"
mount -t tmpfs -o mode=755 tmpfs "$root/run"
mount -t tmpfs -o mode=1777 tmpfs "$root/tmp"
# The overlay has no file systems that are mounted below the machine's; a project may be on one, or in /tmp.
if [ ! -e "$root$2/Makefile" ]; then
    mkdir -p "$root$2"
    mount --rbind -o ro "$2" "$root$2"
fi
mount -t tmpfs -o mode=755 tmpfs "$root/dev"
for device in null zero full random urandom tty; do
    : >"$root/dev/$device"
    mount --bind "/dev/$device" "$root/dev/$device"
done
ln -s /proc/self/fd "$root/dev/fd"
mkdir "$root/dev/shm" "$root/dev/pts"
mount -t tmpfs -o mode=1777 tmpfs "$root/dev/shm"
mount -t devpts -o newinstance,ptmxmode=0666,mode=620 devpts "$root/dev/pts"
ln -s pts/ptmx "$root/dev/ptmx"

rm -rf "$root/etc/systemd/system" "$root/opt/sp-proxy" "$root/etc/sp-proxy" "$root/var/lib/sp-proxy"
mkdir "$root/etc/systemd/system"
: >"$root/etc/machine-id"
echo vm-1 >"$root/etc/hostname"

# A root of its own, as a machine has it: behind a chroot, systemd's namespaces would tell other paths.
mkdir "$root/run/machine"
cd "$root"
pivot_root . run/machine
exec chroot . sh -c 'umount --lazy /run/machine && rmdir /run/machine && exec "$@"' - env -i container=other PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin \
    setpriv --bounding-set=-sys_boot,-sys_module,-sys_rawio,-sys_time \
    /lib/systemd/systemd --log-target=console --show-status=false --unit=multi-user.target
