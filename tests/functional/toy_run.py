"""Run by test_new_type.py in a copy of virtkit that has the toy type: plan, apply, plan again.

libvirt's test driver keeps its world for one process (test:///default) and has no streams: no
image and no seed can be uploaded. The image is told as made; the seed's upload fails, which
leaves a guest as an interrupted run does.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

from virtkit import apply, plan, record, render
from virtkit.drivers import DRIVERS
from virtkit.facts import HostFacts
from virtkit.host import Host, schemas
from virtkit.observed import Observed
from virtkit.plan import Plan
from virtkit.record import GuestRecord
from virtkit.resolve import resolve
from virtkit.resources import Decided, DecidedGuest, ImageFiles, image_identity
from virtkit.spec import Spec, json_schema, load

HOST = Host(
    "local", "default-pool", {"test": "test:///default", "qemu": "test:///no", "lxc": "test:///no"}
)


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
    return plan.diff(resolve(spec, facts, decided(spec, observed)), observed, spec=spec.source)


def carry_out(found: Plan) -> list[str]:
    options = apply.Options(spec="lab.yaml", folder=Path.cwd(), wait=False)
    report = apply.run("lab", apply.steps_of(found, apply.Hands(HOST, options)), parallel=2)
    return [f"{each.object} {each.step} {each.outcome}" for each in report.results]


def of_web() -> GuestRecord:
    return HOST.observe().guests["lab-web"].record


def main() -> None:
    spec = load("lab.yaml")
    facts = HOST.facts()
    first = planned(spec, facts)
    guest = next(each.desired for each in first.changes if each.object == "guest/web")
    body = render.guest(guest)
    element = record.guest_element(record.of_guest(guest, "lab.yaml", body))
    xml = render.with_record(body, element)
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
    there = HOST.storage.names()
    for volume in guest.volumes:
        if volume.content != "log" and volume.name not in there:
            HOST.storage.create(render.guest_volume(volume))
    HOST.domains.write_record(done)
    answer["completed"] = carry_out(planned(spec, facts))
    answer["finished"] = of_web().finished
    answer["state"] = HOST.observe().guests["lab-web"].state
    answer["second"] = planned(spec, facts).as_dict()["changes"]
    down = plan.down(HOST.observe(), "lab", spec=spec.source, only=None, volumes=False)
    answer["down"] = carry_out(down)
    left = HOST.observe()
    answer["left"] = [*left.guests, *left.networks, *left.volumes]
    json.dump(answer, sys.stdout)


main()
