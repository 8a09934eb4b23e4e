"""A guest's NUMA cells, seen from inside; memory of the host's huge pages, where it has some; the
host's CPUs for QEMU's own threads."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from integration.edits import Edits, document, editing, why
from integration.lab import run, tiny_disk, until

pytestmark = pytest.mark.long

HUGE = Path("/proc/sys/vm/nr_hugepages")
FREE = Path("/sys/kernel/mm/hugepages/hugepages-2048kB/free_hugepages")
#: Pages that `paged` needs, and those that `cells` needs.
NEEDED, OF_CELLS = 16, 192
MIB = 1024  # of the KiB that a system tells
NODES = "/sys/devices/system/node/node[0-9]*"
SPEC: dict[str, Any] = {
    "name": "guestmemory",
    "images": {"tiny": {"path": "tiny.raw"}},
    "networks": {"front": {"cidr": "10.94.58.0/24"}},
    "defaults": {"type": "qemu", "ssh_keys": ["id.pub"]},
    "guests": {
        "cells": {
            "memory": "320MiB",
            "max": {"cpus": 3, "memory": "384MiB"},
            "cpus": 2,
            "networks": ["front"],
            "folders": [{"source": "./src", "target": "/srv/src"}],
            "cpu": {
                "emulator_pin": [1],
                "io_threads": 1,
                "io_thread_pin": [0],
                "numa": [
                    {"cpus": [0, 2], "memory": "256MiB", "host_nodes": [0]},
                    {"cpus": [1], "memory": "128MiB"},
                ],
            },
        },
        "paged": {"image": "tiny", "memory": "32MiB", "networks": [], "ready": "none"},
    },
}


@pytest.fixture(scope="module")
def edits(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Edits]:
    folder = tmp_path_factory.mktemp("memory")
    (folder / "tiny.raw").write_bytes(tiny_disk())
    (folder / "src").mkdir()
    (folder / "src/hello").write_text("from the host")
    run("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", folder / "id")
    with editing(folder, SPEC) as edits:
        yield edits


def inside(edits: Edits, script: str) -> list[str]:
    """What a script prints in the guest ``cells``, as root."""
    return edits.lab.virtkit("exec", "cells", "--", "sh", "-c", script).out.splitlines()


def sizes(edits: Edits) -> list[int]:
    """The memory that the guest ``cells`` has in each of them, in KiB."""
    script = f"awk '/MemTotal/ {{print $4}}' {NODES}/meminfo"
    return [int(each) for each in inside(edits, script)]


@contextmanager
def free_pages(count: int) -> Iterator[None]:
    """At least so many free huge pages; the host has its own number again afterwards."""
    before = HUGE.read_text()
    try:
        missing = max(0, count - int(FREE.read_text()))
        HUGE.write_text(str(int(before) + missing))
        if int(FREE.read_text()) < count:
            pytest.skip("this machine's kernel gives no huge pages")
        yield
    finally:
        HUGE.write_text(before)


def test_each_cell_has_its_cpus_and_its_memory(edits: Edits) -> None:
    # the third CPU may come; nobody has plugged it in
    assert inside(edits, f"cat {NODES}/cpulist") == ["0", "1"]
    # the balloon has what it may grow by, of the cell that the guest chose
    first, second = sizes(edits)
    assert first <= 256 * MIB
    assert second <= 128 * MIB
    assert 224 * MIB < first + second <= 320 * MIB
    assert edits.plan() == {}


def test_its_folder_is_served_from_the_cells(edits: Edits) -> None:
    assert inside(edits, "cat /srv/src/hello") == ["from the host"]
    xml = document("guestmemory-cells")
    assert [each.get("cpus") for each in xml.iterfind("cpu/numa/cell")] == ["0,2", "1"]
    (node,) = xml.iterfind("numatune/memnode")
    assert (node.get("mode"), node.get("nodeset")) == ("strict", "0")


def test_qemus_threads_run_where_they_were_told(edits: Edits) -> None:
    pid = Path("/run/libvirt/qemu/guestmemory-cells.pid").read_text().strip()
    threads = {}
    for each in Path(f"/proc/{pid}/task").iterdir():
        allowed = re.search(r"^Cpus_allowed_list:\s*(\S+)", (each / "status").read_text(), re.M)
        assert allowed is not None
        name = "itself" if each.name == pid else (each / "comm").read_text().strip()
        threads[name] = allowed[1]
    assert threads["itself"] == "1"
    assert threads["IO iothread1"] == "0"
    assert threads["CPU 0/TCG"] not in ("0", "1")


def test_its_memory_changes_while_it_runs(edits: Edits) -> None:
    edits.guest("cells", memory="384MiB")
    assert why(edits.plan()["guest/cells"]) == {"memory": ("spec", "live")}
    edits.up()
    assert edits.plan() == {}
    whole = until(lambda: (s := sizes(edits))[0] > 192 * MIB and s[1] > 80 * MIB, 60, 2)
    assert whole, sizes(edits)


def test_nodes_that_the_host_lacks_are_refused(edits: Edits) -> None:
    cell = {"cpus": [0], "memory": "32MiB", "host_nodes": [0, 999]}
    edits.guest("paged", cpu={"numa": [cell]})
    refused = edits.lab.virtkit("plan", code=2)
    assert "has no NUMA node 999" in refused.err
    edits.guest("paged", cpu={})


def test_pages_that_are_not_free_are_refused(edits: Edits) -> None:
    edits.guest("paged", hugepages="2MiB", memory="8TiB")
    refused = edits.lab.virtkit("plan", code=2)
    assert "has too few free huge pages of 2MiB" in refused.err
    assert "sysctl vm.nr_hugepages=" in refused.err
    edits.guest("paged", hugepages=None, memory="32MiB")


def test_memory_of_huge_pages_waits_for_a_restart(edits: Edits) -> None:
    with free_pages(NEEDED):
        before = int(FREE.read_text())
        edits.guest("paged", hugepages="2MiB")
        assert why(edits.plan()["guest/paged"]) == {"hugepages": ("spec", "restart")}
        edits.up()
        assert why(edits.pending()["guest/paged"]) == {"hugepages": ("spec", "restart")}
        edits.lab.virtkit("restart", "paged", "--timeout", "0")
        assert before - int(FREE.read_text()) == NEEDED
        assert edits.plan() == {}
        # what it has itself is free for its next start
        edits.guest("paged", cpus=2)
        edits.up()
        edits.lab.virtkit("restart", "paged", "--timeout", "0")
        assert before - int(FREE.read_text()) == NEEDED
        edits.guest("paged", hugepages=None, cpus=1)
        edits.up()
        assert set(why(edits.pending()["guest/paged"])) == {"cpus", "hugepages"}
        edits.lab.virtkit("restart", "paged", "--timeout", "0")
        assert int(FREE.read_text()) == before
        assert edits.plan() == edits.pending() == {}


def test_cells_and_folders_may_be_of_huge_pages(edits: Edits) -> None:
    with free_pages(OF_CELLS):
        before = int(FREE.read_text())
        edits.guest("cells", hugepages="2MiB", memory="384MiB")
        edits.up("--restart")
        assert before - int(FREE.read_text()) == OF_CELLS
        assert inside(edits, f"cat {NODES}/cpulist /srv/src/hello") == ["0", "1", "from the host"]
        assert edits.plan() == edits.pending() == {}
