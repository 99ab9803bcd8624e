#!/bin/busybox sh
# Runs as process 1 of the lab's guest. Every line that the lab reads begins with "LAB ".
/bin/busybox --install -s /bin
mount -t proc proc /proc
mount -t sysfs sys /sys
mount -t devtmpfs dev /dev
fail() { echo "LAB failed $1"; poweroff -f; }

for module in failover net_failover virtio_net; do
  insmod /modules/$module.ko || fail "insmod $module"
done
tries=0
until [ -e /sys/class/net/eth0 ]; do
  tries=$((tries + 1))
  [ $tries -gt 50 ] && fail "no network device appeared"
  sleep 0.1
done
device=$(basename "$(readlink -f /sys/class/net/eth0/device)")
echo "LAB features $(cat /sys/bus/virtio/devices/$device/features)"
echo "LAB mac $(cat /sys/class/net/eth0/address) mtu $(cat /sys/class/net/eth0/mtu)"

ip link set lo up
echo 0 > /proc/sys/net/ipv6/conf/eth0/accept_dad
ip link set eth0 up
ip addr add 10.77.0.2/24 dev eth0
ip addr add fd77::2/64 dev eth0
ping -c 5 -W 10 10.77.0.1 > /tmp/ping && echo "LAB ping4 ok" || { cat /tmp/ping; fail ping4; }
ping -6 -c 5 -W 10 fd77::1 > /tmp/ping && echo "LAB ping6 ok" || { cat /tmp/ping; fail ping6; }

# name, then iperf3's options
run() {
  name=$1; shift
  iperf3 --json "$@" > /tmp/iperf || { cat /tmp/iperf; fail "iperf3 $name"; }
  bytes=$(sed -n '/"sum_received"/,/}/s/.*"bytes":[^0-9]*\([0-9]*\).*/\1/p' /tmp/iperf)
  retransmits=$(sed -n '/"sum_sent"/,/}/s/.*"retransmits":[^0-9]*\([0-9]*\).*/\1/p' /tmp/iperf)
  echo "LAB iperf $name ${bytes:-0} bytes ${retransmits:-0} retransmits"
}
run guest-to-host -c 10.77.0.1 -n LAB_BYTES
run host-to-guest -c 10.77.0.1 -n LAB_BYTES -R
run guest-to-host-v6 -c fd77::1 -n LAB_BYTES
for counter in rx_packets tx_packets rx_errors tx_errors rx_dropped; do
  echo "LAB counter $counter $(cat /sys/class/net/eth0/statistics/$counter)"
done
echo "LAB done"
poweroff -f
