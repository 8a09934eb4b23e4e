"""usage: .venv/bin/python tests/measure_hosts.py [HOSTS [GUESTS]]

Prints what a plan costs where a spec has so many hosts and each of them so many guests: libvirt's
test driver stands for each host, in this process, so nothing of it is the network's. A fifth of the
spec's guests (1,000 at most) are placed by `place:`; all others on the hosts are strangers'.
"""

from __future__ import annotations

import re
import resource
import sys
import tempfile
import time
import uuid
from dataclasses import replace
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

import samples
from functional.conftest import NODE, POOL

from virtkit.api.plan import plan_on
from virtkit.drivers import QEMU
from virtkit.host import Host
from virtkit.spec import read_text
from virtkit.state import record, record_text
from virtkit.xml import render, tree

MAX_GUESTS = 1000


def hosts_in(folder: Path, count: int) -> list[Host]:
    hosts = []
    for number in range(count):
        node = folder / f"{number}.xml"
        node.write_text(NODE.format(POOL))
        none = f"test://{folder}/none.xml"
        hosts.append(Host(f"h{number}", uris={"qemu": f"test://{node}", "lxc": none, "xen": none}))
    return hosts


def fill(host: Host, template: str, guests: int) -> None:
    for number in range(guests):
        xml = re.sub("<uuid>.*?</uuid>", f"<uuid>{uuid.uuid4()}</uuid>", template)
        host.domains.define(QEMU, xml.replace("xname", f"g{number}"), autostart=False)
    host.connections.release()


def guest_xml() -> str:
    (guest,) = samples.desired_of("name: other\nguests: {xname: {type: qemu, networks: []}}").guests
    guest = samples.with_image(guest)
    body = render.guest(guest)
    made = replace(record.of_guest(guest, "/other.yaml", body).with_state("made"), finished=True)
    return tree.with_record(body, record_text.guest_element(made))


def main(hosts: int = 200, guests: int = 100) -> None:
    with tempfile.TemporaryDirectory() as folder:
        many = hosts_in(Path(folder), hosts)
        template = guest_xml()
        for each in many:
            fill(each, template, guests)
        entries = "".join(f" {each.name}: {{address: root@{each.name}}}\n" for each in many)
        count = min(MAX_GUESTS, hosts * guests // 5)
        text = (
            f"name: lab\nhosts:\n{entries}defaults: {{type: qemu, memory: 64MiB, networks: []}}\n"
        )
        text += f"guests: {{web: {{count: {count}, place: {{spread: host}}}}}}\n"
        spec = read_text(text, source="/lab.yaml", folder=Path("/"))
        began, cpu = time.monotonic(), time.process_time()
        plan = plan_on(many, spec)
        print(
            f"{hosts} hosts with {guests} guests each, {count} guests to make: "
            f"{time.monotonic() - began:.1f} s, {time.process_time() - cpu:.1f} s of CPU, "
            f"{len(plan.changes)} changes, "
            f"{resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024} MiB at most"
        )


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
