"""The commands that take down what has no spec any more."""

from __future__ import annotations

import shlex
from dataclasses import replace

import pytest
import samples

from virtkit.api._hosts import hosts_of
from virtkit.api.orphans import _kept_disks, _Specs, down_command
from virtkit.host import Host


@pytest.mark.parametrize(
    "entry",
    [
        "local: {}",
        "local: {uris: {qemu: qemu+tls://other.example.org/system}}",
        "local: {pool: fast, uris: {qemu: 'qemu+unix:///system?socket=/run/other'}}",
        "rack1: {address: ops@rack1, ssh: {port: 2222}, uris: {xen: xen+tls://rack1/system}}",
    ],
)
@pytest.mark.parametrize("volumes", [True, False])
def test_a_command_without_a_spec_reaches_the_same_libvirts(entry: str, volumes: bool) -> None:
    (host,) = hosts_of(samples.spec_of(f"name: lab\nhosts: {{{entry}}}\nguests: {{}}\n"))
    words = shlex.split(down_command("lab", host, "web", volumes=volumes))
    assert words[0] == "echo"
    (reached,) = hosts_of(samples.spec_of(words[1]))
    uris, found = (
        {scheme: each.connections.display_uri(scheme) for scheme in each.connections.schemes}
        for each in (host, reached)
    )
    assert found == uris
    assert reached.remote == host.remote
    assert reached.storage.pool_name == host.storage.pool_name


def test_a_disk_that_another_machine_may_want() -> None:
    nothing = samples.desired_of("name: lab\nguests: {}\n")
    observed = samples.up(nothing, "/lab.yaml", {"kept": ["gone/web/gone-web-data"]})
    kept = {name: replace(e, made_from="laptop") for name, e in observed.pool.kept.items()}
    there = replace(observed, pool=replace(observed.pool, kept=kept))
    (orphan,) = _kept_disks(there, _Specs(None), Host())
    assert orphan.why.endswith("it may still be in use from machine laptop, where it was created")
    assert not orphan.sure
