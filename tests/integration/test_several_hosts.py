"""Several hosts on one machine, over real ssh."""

from __future__ import annotations

from pathlib import Path

import pytest
from integration.several_hosts import USER, several_hosts


@pytest.mark.timeout(120)
def test_hosts(tmp_path: Path) -> None:
    import time

    b = time.monotonic()
    with several_hosts(tmp_path, 3) as hosts:
        print(time.monotonic() - b)
        assert [each.ssh("hostname") for each in hosts] == ["h1", "h2", "h3"]
        for each in hosts:
            print(
                each.virsh("capabilities | grep uuid"),
                each.ssh("id; virsh -q -c lxc:///system uri", USER),
            )
        print(time.monotonic() - b)
    print(time.monotonic() - b)
    assert 0
