"""Commands in a container's namespaces: never in the host's. (What they do: test_containers.)"""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from virtkit.host import enter


@pytest.mark.parametrize("kinds", [(), ("ipc", "cgroup"), ("mnt", "pid", "user"), enter._KINDS])
def test_where_a_containers_namespaces_are_not_found_nothing_is_entered(
    kinds: tuple[str, ...],
) -> None:
    """Here it is given the host's own, or less."""
    here = Path("/proc/self/ns")
    before = {each.name: each.readlink() for each in here.iterdir()}
    opened = [os.open(f"/proc/self/ns/{kind}", os.O_RDONLY) for kind in kinds]
    try:
        with pytest.raises(OSError, match="namespace of its own"):
            enter._enter(opened)
    finally:
        for each in opened:
            os.close(each)
    assert {each.name: each.readlink() for each in here.iterdir()} == before
