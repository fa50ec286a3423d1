# Runs as the first process of a pid and mount namespace inside the node's
# network namespace: a hypervisor host's libvirtd with its own /etc/libvirt,
# /run/libvirt, /var/lib/libvirt and /dev. The machine's own stay untouched, and
# with this process everything in here ends.
set -eu
L=$1
mkdir -p /run/libvirt /var/lib/libvirt /var/log/libvirt /var/cache/libvirt
for d in etc:/etc/libvirt run:/run/libvirt lib:/var/lib/libvirt log:/var/log/libvirt cache:/var/cache/libvirt; do
  mkdir -p "$L/${d%%:*}"
  mount --bind "$L/${d%%:*}" "${d#*:}"
done
# A /dev without kvm: where /dev/kvm opens but runs no guest, libvirt probes
# QEMU twice and slowly, and the tests want TCG anyway.
mkdir -p "$L/dev"
mount -t tmpfs -o mode=755 none "$L/dev"
mkdir "$L/dev/net" "$L/dev/pts" "$L/dev/shm"
n() { mknod -m 666 "$L/dev/$1" c "$2" "$3"; }
n null 1 3; n zero 1 5; n full 1 7; n random 1 8; n urandom 1 9; n net/tun 10 200
mount --bind /dev/pts "$L/dev/pts"
ln -s pts/ptmx "$L/dev/ptmx"
ln -s /proc/self/fd "$L/dev/fd"
mount --move "$L/dev" /dev
# One capability probe instead of two.
if [ -e /usr/bin/qemu-system-i386 ]; then mount --bind /bin/false /usr/bin/qemu-system-i386; fi
# Started again when it ends, as a service manager would.
while :; do
  libvirtd -l -f "$L/libvirtd.conf" -p "$L/libvirtd.pid" >>"$L/log/stdout" 2>&1 || true
  sleep 0.2
done
