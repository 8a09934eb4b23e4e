"""What a host has of the network: read from what `ip` says, as recorded on real hosts."""

from __future__ import annotations

import json
import subprocess

from virtkit.facts import UsedSubnet
from virtkit.host import routes
from virtkit.host.machine import inspection

#: A laptop: a physical interface, a split VPN, WireGuard with a table of its own, a blackhole, an
#: address on lo.
ROUTES = [
    {"dst": "default", "gateway": "192.0.2.1", "dev": "eth0", "flags": []},
    {"dst": "192.0.2.0/24", "dev": "eth0", "protocol": "kernel", "scope": "link", "flags": []},
    {"dst": "0.0.0.0/1", "gateway": "10.8.0.1", "dev": "tun0", "flags": []},
    {"dst": "10.0.0.0/8", "dev": "tun0", "scope": "link", "flags": []},
    {"dst": "default", "dev": "wg0", "table": "51820", "scope": "link", "flags": []},
    {"dst": "10.77.0.0/16", "dev": "wg1", "table": "77", "scope": "link", "flags": []},
    {"type": "unreachable", "dst": "10.40.0.0/16", "flags": []},
    {"type": "local", "dst": "192.0.2.2", "dev": "eth0", "table": "local", "flags": []},
    {"type": "broadcast", "dst": "192.0.2.255", "dev": "eth0", "table": "local", "flags": []},
    {"type": "local", "dst": "127.0.0.0/8", "dev": "lo", "table": "local", "flags": []},
    {"type": "local", "dst": "10.9.9.9", "dev": "lo", "table": "local", "flags": []},
    {"dst": "fe80::/64", "dev": "eth0", "protocol": "kernel", "flags": []},
    {"dst": "2001:db8:1::/64", "dev": "eth0", "protocol": "ra", "flags": []},
    {"dst": "fd00::/8", "dev": "tun0", "flags": []},
    {"type": "multicast", "dst": "ff00::/8", "dev": "eth0", "table": "local", "flags": []},
]
RULES = [
    {"priority": 0, "src": "all", "table": "local"},
    {"priority": 32764, "src": "all", "dst": "10.50.0.0", "dstlen": 16, "table": "100"},
    {"priority": 32765, "not": None, "src": "all", "fwmark": "0xca6c", "table": "51820"},
    {"priority": 32766, "src": "all", "table": "main", "suppress_prefixlen": 0},
]
DEVICES = [
    {"ifname": "lo"},
    {"ifname": "eth0"},
    {"ifname": "br0", "linkinfo": {"info_kind": "bridge"}},
    {"ifname": "ovs0", "linkinfo": {"info_kind": "openvswitch"}},
]
PROC = (
    "Iface\tDestination\tGateway\tFlags\tRefCnt\tUse\tMetric\tMask\tMTU\tWindow\tIRTT\n"
    "eth0\t00000000\t010200C0\t0003\t0\t0\t0\t00000000\t0\t0\t0\n"
    "eth0\t000200C0\t00000000\t0001\t0\t0\t0\t00FFFFFF\t0\t0\t0\n"
)


def said(*entries: object) -> str:
    return "\n".join([*(json.dumps(each) for each in entries), "3d1219c7c4c5", PROC])


def test_routes_of_all_tables_rules_and_devices() -> None:
    network = routes.parse(said(ROUTES, RULES, [], DEVICES))
    assert set(network.used_subnets) == {
        UsedSubnet("192.0.2.0/24", "eth0", "connected"),
        UsedSubnet("0.0.0.0/1", "tun0"),
        UsedSubnet("10.0.0.0/8", "tun0"),
        UsedSubnet("10.77.0.0/16", "wg1"),
        UsedSubnet("10.40.0.0/16", "unreachable"),
        UsedSubnet("192.0.2.2/32", "eth0", "address"),
        UsedSubnet("10.9.9.9/32", "lo", "address"),
        UsedSubnet("2001:db8:1::/64", "eth0", "connected"),
        UsedSubnet("fd00::/8", "tun0"),
        UsedSubnet("10.50.0.0/16", "rule 32764"),
    }
    assert network.device_kinds == {"lo": "", "eth0": "", "br0": "bridge", "ovs0": "openvswitch"}
    assert network.machine_id == "3d1219c7c4c5"


def test_without_ip_the_kernel_s_list_has_to_do() -> None:
    network = routes.parse("\n".join(["", "", "", "", "", PROC]))
    assert network.used_subnets == (UsedSubnet("192.0.2.0/24", "eth0"),)
    assert network.device_kinds is None, "nobody could look, so nothing is missing"
    assert network.machine_id == ""


def test_whatever_is_said_is_no_error() -> None:
    for text in ("", "\n", "{}\n[1]\nnull\n[[]]\n", "[{]\n" * 5, "[{}]\n" * 4):
        assert routes.parse(text).used_subnets == ()


def test_this_machine() -> None:
    network = routes.parse(inspection.network())
    devices = subprocess.run(["ls", "/sys/class/net"], capture_output=True, text=True, check=True)
    assert network.device_kinds is not None
    assert set(network.device_kinds) == set(devices.stdout.split()) - {"bonding_masters"}
    assert not any(each.subnet.startswith("127.") for each in network.used_subnets)
