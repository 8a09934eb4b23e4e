"""Changes that are carried out against libvirt's test driver: what stands there afterwards."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import samples

from virtkit.apply import Context, StepOptions, steps_of
from virtkit.drivers import QEMU
from virtkit.errors import VirtkitError
from virtkit.host import Host
from virtkit.plan import Plan, diff
from virtkit.progress import Progress
from virtkit.state import record, record_text
from virtkit.xml import render, tree

HEAD = "name: lab\nguests:\n  web: {type: qemu, networks: [], groups: [a], disks: "
DISKS = "[{name: data, size: 1GiB, mount: /d%s}]}\n"
LOOSE, KEPT = HEAD + DISKS % "", HEAD + DISKS % ", keep: true"


def made(host: Host, text: str, spec: str = "/lab.yaml", made_from: str = "") -> None:
    """The guest of ``text``, as if it had been brought up and stopped.

    Args:
        spec, made_from: of its record.
    """
    (guest,) = samples.desired_of(text).guests
    guest = samples.with_image(guest)
    for volume in guest.volumes:
        if volume.content != "log":
            host.storage.create(render.guest_volume_xml(volume))
    body = render.domain_xml(guest)
    new = record.of_guest(guest, spec, body, made_from).with_state("made")
    new = replace(new, finished=True)
    host.domains.define(
        QEMU,
        tree.with_record(body, record_text.guest_element(new)),
        autostart=guest.spec.autostart,
    )


def planned(host: Host, text: str) -> Plan:
    observed = host.observe()
    decided = samples.decided(samples.spec_of(text), observed)
    return diff(samples.desired_of(text, decided=decided), observed, spec_path="/lab.yaml")


@pytest.mark.parametrize(
    ("before", "after", "kept"), [(LOOSE, KEPT, ["lab-web-data"]), (KEPT, LOOSE, [])]
)
def test_a_kept_disk_is_kept_by_what_the_record_says_of_its_volume(
    before: str, after: str, kept: list[str], host: Host
) -> None:
    """`down` looks at the volume's record, so a change of `keep` alone must reach it."""
    made(host, before)
    (change,) = planned(host, after).changes
    assert [each.field for each in change.reasons] == ["disks.data.keep"]
    context = Context(host, StepOptions(spec="/lab.yaml", folder=Path("/")))
    step = steps_of(Plan("lab", (change,)), context)[0]
    assert step.name == "update", "nothing but the record changes"
    step.run(lambda _: None)
    # the pool's record is written in the end, as far as that goes: the test driver has no streams
    records = [each.record for each in host.observe().guests.values()]
    with pytest.raises(VirtkitError, match="upload volume virtkit-record-"):
        context.pool_records.write_after("lab", records)
    volumes = host.observe().guests["lab-web"].record.volumes
    assert [each.name for each in volumes if each.keep] == kept


def test_a_record_that_alone_changes_names_the_machine_of_its_spec(host: Host) -> None:
    """What another machine's spec made, and this machine's changes."""
    made(host, LOOSE, "/theirs.yaml", "laptop")
    change = next(each for each in planned(host, KEPT).changes if each.object == "guest/web")
    context = Context(host, StepOptions(spec="/lab.yaml", folder=Path("/")))
    step = steps_of(Plan("lab", (change,)), context)[0]
    assert step.name == "update", "nothing but the record changes"
    step.run(Progress())
    written = host.observe().guests["lab-web"].record
    assert (written.spec, written.made_from) == ("/lab.yaml", "")


@pytest.mark.parametrize(
    ("before", "after"),
    [("", "Today's <words>"), ("Yesterday's", "Today's"), ("Yesterday's", "")],
)
def test_a_description_follows_while_the_guest_runs(before: str, after: str, host: Host) -> None:
    text = "name: lab\nguests: {web: {type: qemu, networks: []%s}}\n"
    spec = {
        description: text % (f', description: "{description}"' if description else "")
        for description in (before, after)
    }
    made(host, spec[before])
    host.domains.start(QEMU, "lab-web")
    (change,) = planned(host, spec[after]).changes
    assert (change.effect, [each.field for each in change.reasons]) == ("live", ["description"])
    context = Context(host, StepOptions(spec="/lab.yaml", folder=Path("/")))
    steps = {step.name: step for step in steps_of(Plan("lab", (change,)), context)}
    for name in ("define", "unplug", "plug"):
        steps[name].run(Progress())
        steps[name].run(Progress())  # a step that was interrupted runs again
    for xml in (host.domains.definition(QEMU, "lab-web"), host.domains.live(QEMU, "lab-web")):
        assert tree.parse(xml, "it").findtext("description", "") == after
    assert host.domains.state(QEMU, "lab-web") == "running"
    again = planned(host, spec[after]).changes
    fields = {reason.field for each in again for reason in each.reasons}
    assert "description" not in fields, "the next plan has nothing to say of it"
