"""Guests that nobody has seen: on which host they may be."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import samples

from virtkit import access
from virtkit.api._hosts import HostState, path_of, with_spec_path
from virtkit.api.status import _missing
from virtkit.host import Host
from virtkit.spec import Spec, read_text
from virtkit.state.observed import Observed
from virtkit.state.record import KeptDisk, PoolRecord

HERE = "name: lab\nguests: {web: {type: qemu}}\n"
SPEC = """
name: lab
hosts: {local: {}, far: {address: root@far}, more: {address: root@more}}
guests: {web: {type: xen-pv}, fixed: {type: xen-pv, host: more}}
"""


@pytest.fixture
def spec(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Spec:
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path))
    return read_text(SPEC, source=str(tmp_path / "lab.yaml"), folder=tmp_path)


def test_a_guest_of_a_silent_host(spec: Spec) -> None:
    """Nobody says that it is here, where it was looked for and isn't."""

    def where(name: str, *silent: str) -> tuple[str, str]:
        status = _missing(spec, name, set(silent))
        return status.host, status.state

    assert where("web") == ("local", "missing")
    assert where("web", "far") == ("far", "unknown")
    assert where("web", "more", "far") == ("far or more", "unknown")
    assert where("fixed", "far") == ("more", "missing")
    assert where("fixed", "more") == ("more", "unknown")
    # its key says where it was last
    record = next(iter(samples.up(samples.desired_of(HERE), "/lab.yaml").guests.values())).record
    access.write_known_hosts("lab", [record], "more")
    assert where("web", "more", "far") == ("more", "unknown")
    assert where("web", "far") == ("far", "unknown")


def test_a_spec_by_another_path_is_the_same(tmp_path: Path) -> None:
    spec, link, copy = tmp_path / "lab.yaml", tmp_path / "link.yaml", tmp_path / "copy.yaml"
    spec.write_text(SPEC)
    link.symlink_to(spec)
    copy.write_text(SPEC)
    assert path_of(read_text(SPEC, source=str(link), folder=tmp_path)) == str(spec)

    def seen(path: str) -> set[str]:
        observed = samples.up(samples.desired_of(HERE), path)
        kept = {"x": KeptDisk("lab", "web", "x", "/pool/x", path)}
        same = with_spec_path(_host_state(observed, kept), str(spec)).observed
        owned = (*same.guests.values(), *same.networks.values())
        return {*(each.record.spec for each in owned), *(e.spec for e in same.pool.kept.values())}

    assert seen(str(spec)) == seen(str(link)) == {str(spec)}
    for other in (str(copy), str(tmp_path / "gone.yaml"), "<stdin>", "", "lab.yaml", "/a\0b"):
        assert seen(other) == {other}


def _host_state(observed: Observed, kept: dict[str, KeptDisk]) -> HostState:
    return HostState(Host(), replace(observed, pool=PoolRecord(observed.pool.images, kept)))
