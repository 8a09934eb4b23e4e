"""What the host's side of a guest's interface tells, by what `bridge` says.

Without leases: libvirt's test driver has none. For these see tests/integration/test_network.py.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from virtkit.host import Host
from virtkit.host.bridge_ports import beside_reason, bridges, no_address_reason

MAC, OTHER = "52:54:00:00:00:01", "52:54:00:00:00:02"
LIVE = f"""<domain><devices>
  <interface type='direct'><mac address='{OTHER}'/><source dev='eth0'/><target dev='macvtap0'/>
  </interface>
  <interface type='network'><mac address='{MAC.upper()}'/>
    <source network='front' bridge='virbr9'/><target dev='vnet4'/></interface>
</devices></domain>"""
NETWORK = """<network><name>front</name><forward mode='nat'/><bridge name='virbr9'/>
  <ip address='10.20.0.1' netmask='255.255.255.0'><dhcp>
    <range start='10.20.0.100' end='10.20.0.200'/></dhcp></ip></network>"""


Senders = Callable[..., None]


@pytest.fixture
def senders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Senders:
    """Has the program `bridge` tell who sent through the interface; a port's own is permanent."""
    program = tmp_path / "bin/bridge"
    program.parent.mkdir()
    monkeypatch.setenv("PATH", str(program.parent))

    def sent(*macs: str) -> None:
        own = {"mac": "fe:54:00:00:00:01", "ifname": "vnet4", "state": "permanent"}
        another = {"mac": OTHER, "ifname": "vnet5", "state": ""}
        entries = [own, another, *({"mac": each, "ifname": "vnet4", "state": ""} for each in macs)]
        program.write_text(f"#!/bin/sh\necho '{json.dumps(entries)}'\n")
        program.chmod(0o755)

    return sent


def test_a_guest_that_sends_nothing_is_not_up(
    host_with: Callable[..., Host], senders: Senders
) -> None:
    senders()
    assert no_address_reason(host_with(NETWORK).connections, LIVE).why == ""


def test_an_interface_whose_address_was_changed(
    host_with: Callable[..., Host], senders: Senders
) -> None:
    senders("da:00:00:00:00:07")
    reason = no_address_reason(host_with(NETWORK).connections, LIVE)
    assert reason.why.startswith(f"its interface on front sends as da:00:00:00:00:07, not as {MAC}")
    assert "virtkit restart" in reason.cure
    senders(MAC, "da:00:00:00:00:07")
    assert no_address_reason(host_with(NETWORK).connections, LIVE).why == "", (
        "somebody in the guest sends too"
    )


WIRE = "<network><name>wire</name><bridge name='virbr7'/></network>"
LAN = "<network><name>lan</name><forward mode='bridge'/><bridge name='br0'/></network>"


@pytest.mark.parametrize(
    ("sources", "why"),
    [
        (["network='wire'"], "on wire, where the host has no address"),
        (["network='wire'", "dev='eth0'"], "each other and on wire, where the host has no address"),
        (["dev='eth0'"], "on eth0 beside the host (macvtap), where the host and the guest can't"),
        (["network='wire'", "network='front'"], ""),
        (["network='lan'"], ""),
        (["bridge='br0'", "network='wire'"], ""),
        (["network='gone'"], ""),
        ([], ""),
    ],
)
def test_a_guest_that_the_host_can_not_reach(
    host_with: Callable[..., Host], sources: list[str], why: str
) -> None:
    kinds = {"network": "network", "dev": "direct", "bridge": "bridge"}
    interfaces = "".join(
        f"<interface type='{kinds[each.partition('=')[0]]}'><source {each}/></interface>"
        for each in sources
    )
    live = f"<domain><devices>{interfaces}</devices></domain>"
    reason = beside_reason(host_with(NETWORK, WIRE, LAN).connections, live)
    assert bool(reason.why) == bool(why)
    assert why in reason.why


def test_bridges_for_which_libvirt_makes_rules(host_with: Callable[..., Host]) -> None:
    six = NETWORK.replace("front", "six").replace("virbr9", "virbr8")
    six = six.replace("</network>", "<ip family='ipv6' address='fd00::1' prefix='64'/></network>")
    back = "<network><name>back</name><bridge name='virbr7'/></network>"
    lan = "<network><name>lan</name><forward mode='bridge'/><bridge name='br0'/></network>"
    by_name = {each.name: each for each in bridges(host_with(NETWORK, six, back, lan).connections)}
    assert {name: (e.network, e.forwards, e.ipv6) for name, e in by_name.items()} == {
        "virbr9": ("front", True, False),
        "virbr8": ("six", True, True),
        "virbr7": ("back", False, False),
    }
