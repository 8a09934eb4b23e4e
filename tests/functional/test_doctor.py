"""What doctor says of a host, and the commands that it tells. Against libvirt's test driver."""

from __future__ import annotations

import shlex
from collections.abc import Callable
from dataclasses import replace

import pytest
import samples

from virtkit.api.doctor import _libvirt, _lost_kept_disks
from virtkit.api.doctor import _volumes as volume_checks
from virtkit.api.orphans import _volumes
from virtkit.host import Host
from virtkit.state import record, record_text
from virtkit.xml import render, tree

MakeHost = Callable[..., Host]
POOL = "<pool type='dir'><name>{}</name><target><path>{}</path></target>{}</pool>"
VOLUME = "<volume type='file'><name>{}</name><capacity>1024</capacity></volume>"
WEB = samples.with_image(samples.guest_of("name: lab\nguests: {web: {type: qemu}}\n"))
BODY = render.domain_xml(WEB)
RECORD = replace(record.of_guest(WEB, "/lab.yaml", BODY).with_state("made"), finished=True)
DOMAIN = tree.with_record(BODY, record_text.guest_element(RECORD))


@pytest.mark.parametrize("name", ["lab-web-x; touch x", "lab-web-it's", "lab-web-$(id)"])
def test_a_strangers_name_is_one_word_of_a_command(name: str, host_with: MakeHost) -> None:
    """Whoever may make volumes gives them any name, and somebody pastes the command."""
    host = host_with(POOL.format("default", "/pool", VOLUME.format(name)), DOMAIN)
    (orphan,) = _volumes(host.observe(), host)
    delete, _, first = orphan.cure.removesuffix(")").partition(" (first: ")
    for command, verb in ((delete, "vol-delete"), (first, "vol-info")):
        assert shlex.split(command)[-4:] == [verb, name, "--pool", "default"]


def test_a_kept_disk_that_is_gone_and_that_nobody_wants(host_with: MakeHost) -> None:
    """The cure takes no other guest down, and no other guest's kept disks."""
    spec = samples.spec_of("name: lab\nguests: {web: {type: qemu}, db: {type: qemu}}\n")
    kept = {"kept": ["lab/db/lab-db-data", "lab/past/lab-past-data"]}
    observed = samples.up(samples.desired_of("name: lab\nguests: {}\n"), "/lab.yaml", kept)
    checks = volume_checks(host_with(), replace(observed, volumes=frozenset()), spec)
    db, past = (each.cure for each in checks)
    assert db == f"virtkit down {spec.source} db --volumes"
    assert past.startswith("echo ")
    assert past.endswith("| virtkit down -f - --yes --volumes past")


@pytest.mark.parametrize("there", ["guests: {db: {type: qemu}}", "guests: {}"])
def test_a_kept_disk_that_is_gone_beside_what_is_there(there: str, host_with: MakeHost) -> None:
    """Nothing is told that takes a guest down, or another kept disk."""
    spec = samples.spec_of("name: lab\nguests: {db: {type: qemu}}\n")
    kept = {"kept": ["lab/db/lab-db-data", *(["lab/db/lab-db-more"] if "{}" in there else [])]}
    observed = samples.up(samples.desired_of(f"name: lab\n{there}\n"), "/lab.yaml", kept)
    gone = replace(observed, volumes=observed.volumes - {"lab-db-data"})
    (check,) = _lost_kept_disks(host_with(), gone, spec)
    assert (check.name, check.ok, check.cure) == ("disk lab-db-data", None, "")


def test_a_pool_that_the_caller_may_not_look_into(host_with: MakeHost) -> None:
    """Such as one in the home of another. Here its path is one that no system call takes."""
    path = "/" + "x" * 300
    host = host_with(POOL.format("default", path, ""))
    checks = [each for each in _libvirt(host.facts(), host) if each.name == "pool default"]
    assert [(each.ok, each.what) for each in checks] == [(True, f"{path}, active")]
