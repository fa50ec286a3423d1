#!/bin/sh
# Fetches what a test guest boots: the kernel and virtio modules of Debian's
# cloud kernel, unpacked, never installed. Usage: e2e/prepare.sh [FOLDER]
# (default: .cache/e2e beside this checkout's go.mod). Runs once; afterwards it
# only checks. Needs apt-get, apt-cache and dpkg-deb, no root.
set -eu
dir=${1:-$(cd "$(dirname "$0")/.." && pwd)/.cache/e2e}
die() { echo "prepare.sh: $*" >&2; exit 1; }

[ -s "$dir/vmlinuz" ] && [ -e "$dir/mod/order" ] && exit 0

for t in apt-get apt-cache dpkg-deb; do
  command -v $t >/dev/null || die "$t is missing: the guest kernel comes from Debian's linux-image-cloud-amd64"
done
pkg=$(apt-cache depends linux-image-cloud-amd64 2>/dev/null | awk '/Depends: linux-image/{print $2; exit}')
[ -n "$pkg" ] || die "apt knows no linux-image-cloud-amd64: run apt-get update (Debian, amd64)"

mkdir -p "$dir"
exec 9>"$dir/.lock"
flock 9 # packages are tested in parallel
[ -s "$dir/vmlinuz" ] && [ -e "$dir/mod/order" ] && exit 0
tmp=$(mktemp -d "$dir/prepare.XXXXXX")
trap 'rm -rf "$tmp"' EXIT
chmod 755 "$tmp"
cd "$tmp"
apt-get download "$pkg" >apt.log 2>&1 || { cat apt.log >&2; die "could not download $pkg"; }
dpkg-deb -x ./*.deb root

# In the order in which they must be loaded.
mkdir mod
for m in virtio_ring virtio virtio_pci_legacy_dev virtio_pci_modern_dev virtio_pci failover net_failover virtio_net; do
  f=$(find root -name "$m.ko*" | head -n 1)
  case $f in
    "") ;; # built in
    *.ko) cp "$f" mod/; echo "$m.ko" >>mod/order ;;
    *.ko.xz) xz -dc "$f" >"mod/$m.ko"; echo "$m.ko" >>mod/order ;;
    *) die "do not know how to unpack $f" ;;
  esac
done
touch mod/order
cp root/boot/vmlinuz-* vmlinuz
rm -rf "$dir/mod"
mv mod "$dir/mod"
mv vmlinuz "$dir/vmlinuz"
echo "prepare.sh: guest kernel $pkg in $dir" >&2
