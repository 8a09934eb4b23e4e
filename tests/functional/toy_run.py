"""Run by test_new_type.py in a copy of virtkit that has the toy type: plan, apply, plan again.

libvirt's test driver keeps its world for one process (test:///default) and has no streams. The
pool's record gets some (tests/faultpoints.py), no image and no seed. The image is told as made; the
seed's upload fails, which leaves a guest as an interrupted run does.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import faultpoints
import libvirt

from virtkit.apply import Context, StepOptions, run, steps_of
from virtkit.drivers import DRIVERS
from virtkit.facts import HostFacts
from virtkit.host import Host, schemas
from virtkit.plan import Plan, diff, removal
from virtkit.plan.resolve import resolve
from virtkit.spec import Spec, json_schema, load
from virtkit.state import record, record_text
from virtkit.state.desired import Decided, DecidedGuest, ImageFiles, image_identity
from virtkit.state.observed import Observed
from virtkit.state.record import GuestRecord
from virtkit.xml import render, tree

HOST = Host(
    "local", "default-pool", {"test": "test:///default", "qemu": "test:///no", "lxc": "test:///no"}
)


def give_streams(folder: Path) -> None:
    """Streams for the pool's record, and for nothing else."""
    folder.mkdir()
    real, streams = libvirt.libvirtmod.virStorageVolUpload, faultpoints._Streams(folder)
    for name in (each for each in dir(streams) if each.startswith("vir")):
        setattr(libvirt.libvirtmod, name, getattr(streams, name))

    def upload(volume: Any, stream: Any, *arguments: Any) -> int:
        ours = libvirt.libvirtmod.virStorageVolGetName(volume).startswith("virtkit-record-")
        return int((streams.virStorageVolUpload if ours else real)(volume, stream, *arguments))

    libvirt.libvirtmod.virStorageVolUpload = upload
    libvirt.libvirtmod.virStreamAbort = lambda _stream: 0


def decided(spec: Spec, observed: Observed) -> Decided:
    identity = image_identity(spec.images["debian-12"])
    files = ImageFiles.named("/default-pool", "content", format="raw", size=1, bootable=False)
    return Decided(
        guests={
            name: DecidedGuest(each.record.type, each.record.image, each.record.image_identity)
            for name, each in observed.guests_of(spec.name).items()
        },
        networks={name: each.record.cidr for name, each in observed.networks_of(spec.name).items()},
        images={identity: files},
    )


def planned(spec: Spec, facts: HostFacts) -> Plan:
    observed = HOST.observe()
    return diff(resolve(spec, facts, decided(spec, observed)), observed, spec_path=spec.source)


def carry_out(plan: Plan) -> list[str]:
    options = StepOptions(spec="lab.yaml", folder=Path.cwd(), wait=False)
    context = Context(HOST, options)
    report = run("lab", steps_of(plan, context), parallel=2)
    context.pool_records.write_after(
        "lab", [each.record for each in HOST.observe().guests.values()]
    )
    return [f"{each.object} {each.step} {each.outcome}" for each in report.results]


def of_web() -> GuestRecord:
    return HOST.observe().guests["lab-web"].record


def main() -> None:
    give_streams(Path.cwd() / "streams")
    spec = load("lab.yaml")
    facts = HOST.facts()
    first = planned(spec, facts)
    guest = next(each.desired for each in first.changes if each.object == "guest/web")
    body = render.domain_xml(guest)
    element = record_text.guest_element(record.of_guest(guest, "lab.yaml", body))
    xml = tree.with_record(body, element)
    schemas.check("domain", xml, "the toy")
    answer = {
        "schemes": list(HOST.schemes),
        "types": [*DRIVERS],
        "schema": json.dumps(json_schema()["$defs"]["GuestEntry"]["properties"]["type"]),
        "reasons": [each.why for each in DRIVERS["toy"].check(facts)],
        "first": first.as_dict()["changes"],
        "applied": carry_out(first),
        "after": planned(spec, facts).as_dict()["changes"],
        "states": [each.state for each in of_web().volumes],
    }
    # what the test driver can't do is said to be done, so that the rest can be seen
    done = of_web().with_state("made")
    names = HOST.storage.names()
    for volume in guest.volumes:
        if volume.content != "log" and volume.name not in names:
            HOST.storage.create(render.guest_volume_xml(volume))
    HOST.domains.write_record(done)
    answer["completed"] = carry_out(planned(spec, facts))
    answer["finished"] = of_web().finished
    answer["state"] = HOST.observe().guests["lab-web"].state
    answer["second"] = planned(spec, facts).as_dict()["changes"]
    down = removal.down(HOST.observe(), "lab", spec_path=spec.source, only=None, volumes=False)
    answer["down"] = carry_out(down)
    left = HOST.observe()
    answer["left"] = [*left.guests, *left.networks, *left.pool.guests]
    answer["left"] += [each for each in left.volumes if not each.startswith("virtkit-record-")]
    json.dump(answer, sys.stdout)


main()
