"""What a run writes into the pool's record, against libvirt's test driver: whatever others do
meanwhile, no volume is lost from sight, and none of theirs is touched.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import pytest
import samples

from virtkit.apply import Context, Step, StepOptions, steps_of
from virtkit.drivers import QEMU
from virtkit.errors import VirtkitError
from virtkit.host import Host
from virtkit.plan import Change, Plan, diff, removal
from virtkit.progress import Progress
from virtkit.state import record, record_text
from virtkit.xml import render, tree

pytestmark = pytest.mark.usefixtures("streams")

SPEC = "/lab.yaml"
LAB = "name: lab\nguests: {web: {type: qemu, networks: [], disks: [%s]}}\n"
DATA = "{name: data, size: 1GiB}"


def work(host: Host, plan: Plan) -> tuple[Context, Mapping[str, Step]]:
    context = Context(host, StepOptions(spec=SPEC, folder=Path("/")))
    steps = steps_of(plan, context)
    return context, {f"{each.object} {each.name}": each for each in steps}


def create(text: str) -> Plan:
    """The plan for a guest that nobody saw anything of."""
    guest = samples.guest_of(text)
    change = Change(f"guest/{guest.name}", "local", "create", desired=guest)
    return Plan(guest.environment, (change,))


def made(host: Host, text: str) -> None:
    """The guest of ``text``, as 0.1.0 brought it up, which listed none in the pool's record."""
    guest = samples.guest_of(text)
    for volume in guest.volumes:
        host.storage.create(render.guest_volume_xml(volume))
    body = render.domain_xml(guest)
    new = replace(record.of_guest(guest, SPEC, body).with_state("made"), finished=True)
    host.domains.define(
        QEMU,
        tree.with_record(body, record_text.guest_element(new)),
        autostart=guest.spec.autostart,
    )


def down(host: Host) -> Plan:
    return removal.down(host.observe(), "lab", spec_path=SPEC, only=None, volumes=False)


def undefine(host: Host) -> None:
    """As somebody with virsh; also for ours, whose flags the test driver does not know."""
    host.connections.get("qemu").lookupByName("lab-web").undefine()


def test_a_guest_whose_name_in_libvirt_another_run_took_is_not_listed(host: Host) -> None:
    """Two environments at once, a-b with guest c and a with guest b-c: both see nothing there."""
    runs = [
        work(host, create(f"name: {lab}\nguests: {{{guest}: {{type: qemu, networks: []}}}}\n"))
        for lab, guest in (("a-b", "c"), ("a", "b-c"))
    ]
    for _, steps in runs:
        steps["pool record"].run(Progress())
    assert host.storage.record().guests["a-b-c"].environment == "a-b"
    with pytest.raises(VirtkitError, match="domain a-b-c does not belong to this environment"):
        runs[1][1]["guest/b-c define"].run(Progress())
    assert host.observe().guests == {}


def test_a_strangers_volume_that_came_since_the_plan_stays(host: Host) -> None:
    made(host, LAB % "")
    desired = samples.desired_of(
        LAB % DATA, decided=samples.decided(samples.spec_of(LAB % DATA), host.observe())
    )
    _, steps = work(host, diff(desired, host.observe(), spec_path=SPEC))
    stranger = samples.guest_of(LAB % DATA).volumes[-1]
    assert stranger.name == "lab-web-data"
    host.storage.create(render.guest_volume_xml(stranger))
    steps["pool record"].run(Progress())
    with pytest.raises(VirtkitError, match="volume lab-web-data exists already"):
        steps["guest/web define"].run(Progress())
    (listed,) = host.observe().records()
    assert "lab-web-data" not in {each.name for each in listed.volumes}
    assert "lab-web-data" in host.storage.names()


def test_a_domain_that_goes_during_down_costs_one_more_run(host: Host) -> None:
    made(host, LAB % DATA)
    before = host.storage.names()
    _, steps = work(host, down(host))
    steps["pool record"].run(Progress())
    undefine(host)
    with pytest.raises(VirtkitError, match="has changed since this run looked at it"):
        steps["guest/web volumes"].run(Progress())
    assert before <= host.storage.names(), "nothing was deleted"
    context, steps = work(host, down(host))
    for step in ("pool record", "guest/web volumes", "guest/web undefine"):
        steps[step].run(Progress())
    assert not context.pool_records.write_after("lab", [])
    assert host.storage.record().guests == {}
    assert not before & host.storage.names()


def test_what_a_newer_version_listed_is_written_again(host: Host) -> None:
    newer = {"guests": {"lab-new": {"guest": "new", "type": "newer"}}, "images": {"c": {"a": 1}}}
    host.storage.write_record(record.PoolRecord(unread=newer))
    made(host, LAB % "")
    context, steps = work(host, down(host))
    for step in ("pool record", "guest/web volumes"):
        steps[step].run(Progress())
    undefine(host)
    steps["guest/web undefine"].run(Progress())
    context.pool_records.write_after("lab", [])
    assert host.storage.record() == record.PoolRecord(unread=newer)
