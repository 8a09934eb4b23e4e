"""The addresses of a guest that its host learned: the guest's agent may say anything."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from virtkit.host.guest_addresses import usable

MAC = "52:54:00:00:00:01"


@given(st.lists(st.text(max_size=30), max_size=4))
def test_only_plain_addresses_count(addresses: list[str]) -> None:
    odd = ["-oProxyCommand=x", "fd00::1%x\n  ProxyCommand id", "127.0.0.1", "fe80::1", "10.0.0.5"]
    entries = [{"addr": each} for each in (*addresses, *odd)]
    reachable = usable({"eth0": {"hwaddr": MAC, "addrs": entries}}, {MAC})
    assert "10.0.0.5" in reachable
    assert all(set(each) <= set("0123456789abcdef.:") for each in reachable)
    assert usable({"eth0": {"hwaddr": "other", "addrs": entries}}, {MAC}) == []
