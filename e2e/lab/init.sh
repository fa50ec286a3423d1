#!/bin/busybox sh
# The test guest's only process tree: network up, the scanner, and a heartbeat
# on the serial console that shows from outside that the guest runs.
/bin/busybox mkdir -p /bin /sbin /proc /sys /dev
/bin/busybox --install -s /bin
mount -t proc proc /proc; mount -t sysfs sys /sys; mount -t devtmpfs dev /dev
while read -r m; do insmod "/mod/$m" || echo "insmod $m failed"; done </mod/order
i=0
while [ ! -e /sys/class/net/eth0 ] && [ $i -lt 50 ]; do sleep 0.1; i=$((i+1)); done
arg() { sed -n "s/.*\b$1=\([^ ]*\).*/\1/p" /proc/cmdline; }
ip link set lo up
ip link set eth0 up
ip addr add "$(arg guestip)" dev eth0
ip route add default via "$(arg gateway)"
ip6=$(arg guestip6)
if [ -n "$ip6" ]; then
  echo 0 >/proc/sys/net/ipv6/conf/eth0/accept_dad # its own address at once
  ip -6 addr add "$ip6" dev eth0
fi
echo "GUEST-READY $(cut -d' ' -f1 /proc/uptime)"
rate=$(arg scanrate)
[ -n "$rate" ] && ( while :; do /scan -net "$(arg scannet)" -port "$(arg scanport)" -rate "$rate" -orders "$(arg orders)"; sleep 1; done ) &
# What an honest customer does beside: it talks to somebody, over both families.
talk=$(arg talk)
[ -n "$talk" ] && ( while :; do echo 0123456789abcdef | nc -w 2 "$talk" 443 >/dev/null 2>&1; sleep 0.3; done ) &
peer6=$(arg peer6)
[ -n "$peer6" ] && ( while :; do for p in 22 80; do nc -w 1 "$peer6" $p </dev/null >/dev/null 2>&1; done; sleep 0.2; done ) &
n=0
while :; do
  n=$((n+1))
  echo "HB $n up=$(cut -d' ' -f1 /proc/uptime) carrier=$(cat /sys/class/net/eth0/carrier 2>/dev/null) tx=$(cat /sys/class/net/eth0/statistics/tx_packets)"
  sleep 0.5
done
