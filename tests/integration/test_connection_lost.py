"""libvirt ends virtkit's connections at each call of a verb that only looks: an error with a cure,
or a new connection, and no fault of virtkit's."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

import pytest
from faultpoints import Fault, runner
from integration.fault_lab import FaultLab, reported_errors
from integration.lab import laboratory, tiny_disk

#: The guest of type `auto` asks what is known of KVM; c and d are not there yet.
SPEC = """
name: look
images: {tiny: {path: tiny.raw}}
networks: {front: {cidr: 10.94.47.0/24}}
defaults: {image: tiny, memory: 32MiB, ready: none, networks: [front]}
guests:
  a: {type: qemu}
  b: {type: auto}
  d: {type: auto}
  c: {type: lxc, image: debian-12}
"""


@pytest.fixture(scope="module")
def fault_lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[FaultLab]:
    folder = tmp_path_factory.mktemp("look")
    (folder / "tiny.raw").write_bytes(tiny_disk())
    with laboratory(folder, "look", SPEC) as lab, runner({}) as forks:
        fault_lab = FaultLab(lab, "qemu:///system", forks)
        fault_lab.run("up", "a", "b")
        yield fault_lab


@pytest.mark.timeout(1800)  # doctor looks anew at KVM
@pytest.mark.parametrize(
    "verb",
    ["plan", "status", "inventory", pytest.param("doctor", marks=pytest.mark.long)],
)
def test_libvirt_ends_the_connections_of_a_verb_that_looks(fault_lab: FaultLab, verb: str) -> None:
    """By name and number, since threads take turns as they like: a point may not be reached."""
    line = (verb, fault_lab.lab.spec, "--json")
    count: Counter[str] = Counter()
    reached = failed = 0
    for name in fault_lab.runner.run(*line, fault=Fault()).calls:
        count[name] += 1
        ended = fault_lab.runner.run(*line, fault=Fault("cut", count[name], name=name))
        reached += len(ended.calls) >= count[name]
        if verb == "doctor":  # what it finds may be no error, and is an exit code of 1 all the same
            assert ended.code in (0, 1, 2), f"{name} {count[name]}: {ended}"
            assert "virtkit itself" not in ended.out + ended.err, f"{name} {count[name]}: {ended}"
        else:
            failed += bool(reported_errors(ended))
    assert reached > count.total() / 2
    assert verb == "doctor" or failed
