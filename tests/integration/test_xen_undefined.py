"""Guests on a Xen host: their domain goes and their disks stay, and `up` is cut off as it changes
keys."""

from __future__ import annotations

from pathlib import Path

import pytest
from integration.keys import cut_off
from integration.lab import POOL
from integration.xen import xen_laboratory
from xenhost.xenhost import XenHost

pytestmark = [pytest.mark.long, pytest.mark.timeout(1800)]

TYPES = ("xen-pv", "xen-pvh", "xen-hvm")
SPEC = """
networks: {front: {cidr: 10.94.43.0/24}}
defaults: {type: TYPE, memory: 224MiB, networks: [front]}
guests:
  web: {disks: [{name: data, size: 32MiB, mount: /srv/data}], ssh_keys: [KEYS]}
"""
#: What the guest says that another one would not.
IDENTITY = """
cat /etc/ssh/ssh_host_ed25519_key.pub /etc/machine-id /root/mine /srv/data/mine
"""
#: Which files its volumes are: another one was made anew.
FILES = f"ls -i {POOL} | grep undone-"


@pytest.mark.parametrize("type", TYPES)
def test_it_is_defined_again_over_its_disks(xen: XenHost, tmp_path: Path, type: str) -> None:
    text = SPEC.replace("TYPE", type).replace(", ssh_keys: [KEYS]", "")
    with xen_laboratory(tmp_path, "undone", text, xen) as lab:
        assert lab.json("up")["ok"]
        lab.sh("web", "echo hello >/srv/data/mine; echo there >/root/mine; sync")
        before, known = lab.sh("web", IDENTITY), lab.virtkit("ssh-config").out
        volumes = lab.run_on_host(FILES)
        lab.virtkit("stop")
        assert lab.status("web")["state"] == "stopped"
        lab.virsh("undefine", "undone-web")
        (change,) = lab.json("plan")["changes"]
        assert (change["object"], change["action"]) == ("guest/web", "create"), change
        assert [(r["field"], r["cause"]) for r in change["reasons"]] == [("domain", "drift")]
        assert lab.json("up")["ok"]
        assert lab.json("plan")["changes"] == []
        assert lab.sh("web", IDENTITY) == before
        assert lab.virtkit("ssh-config").out == known
        assert lab.run_on_host(FILES) == volumes
        lab.virsh("destroy", "undone-web")
        lab.virsh("undefine", "undone-web")
        assert lab.json("down")["ok"]
        assert not lab.left()


@pytest.mark.parametrize("type", TYPES)
def test_keys_converge_wherever_it_is_cut_off(xen: XenHost, tmp_path: Path, type: str) -> None:
    text = SPEC.replace("TYPE", type)
    with xen_laboratory(tmp_path, "cut", text.replace("KEYS", ""), xen) as lab:
        assert cut_off(lab, "web", xen.spec + text, first=True) > 5
