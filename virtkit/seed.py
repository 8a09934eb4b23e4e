"""The first boot of a guest: the files of its NoCloud seed, as text.

Pure. Sources: cloud-init's NoCloud, "Networking Config Version 2" and module reference pages.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

from virtkit import render
from virtkit.resources import Guest, Interface


@dataclass(frozen=True)
class Keys:
    """What lets callers in and proves the guest to them.

    Attributes:
        authorized: public keys, as in authorized_keys.
        host_private: the guest's ssh host key in OpenSSH's format; a secret. Empty for a guest
            that has it already.
        host_public: its public half, ``ssh-ed25519 AAAA…``.
    """

    authorized: Sequence[str]
    host_private: str
    host_public: str


def documents(guest: Guest, keys: Keys, instance: str) -> dict[str, str]:
    """The seed's files by name. ``instance`` is new for each life of the guest.

    Any image with cloud-init takes them; where the spec adds no cloud_init of its own, an
    image that virtkit built runs the short ``virtkit.sh`` instead.
    """
    answer = {
        "meta-data": f"instance-id: {instance}\nlocal-hostname: {guest.name}\n",
        "user-data": "#cloud-config\n" + _json(user_data(guest, keys)),
        "network-config": _json(network_config(guest.interfaces)),
    }
    if guest.light:
        answer["virtkit.sh"] = _light(guest, keys, instance)
    return answer


def user_data(guest: Guest, keys: Keys) -> dict[str, Any]:
    """virtkit's own user-data with the spec's ``cloud_init`` merged in.

    Lists are appended to virtkit's own, other keys win over them.
    """
    own: dict[str, Any] = {
        "hostname": guest.name,
        "fqdn": guest.fqdn,
        "manage_etc_hosts": True,
        "users": [
            {
                "name": guest.spec.user,
                "shell": "/bin/bash",
                "lock_passwd": True,
                "sudo": "ALL=(ALL) NOPASSWD:ALL",
                "ssh_authorized_keys": list(keys.authorized),
            }
        ],
        "ssh_pwauth": False,
        # a card that the guest got in its life, too
        "updates": {"network": {"when": ["boot"]}},
        # a container's layer has its size from the start
        "resize_rootfs": guest.driver.root == "disk",
        "mounts": [
            [f"LABEL={each['label']}", each["path"], "ext4", "defaults,nofail,x-virtkit", "0", "2"]
            for each in _mounts(guest)
        ],
    }
    if keys.host_private:
        own["ssh_deletekeys"] = True
        own["ssh_genkeytypes"] = []
        own["ssh_keys"] = {
            "ed25519_private": keys.host_private,
            "ed25519_public": keys.host_public,
        }
    return merge(own, guest.spec.cloud_init)


def merge(own: Mapping[str, Any], users: Mapping[str, Any]) -> dict[str, Any]:
    """Maps key by key, lists appended to ``own``'s, other values from ``users``."""
    answer = dict(own)
    for key, value in users.items():
        mine = answer.get(key)
        if isinstance(mine, Mapping) and isinstance(value, Mapping):
            answer[key] = merge(mine, value)
        elif isinstance(mine, list) and isinstance(value, list):
            answer[key] = [*mine, *value]
        else:
            answer[key] = value
    return answer


def network_config(interfaces: Sequence[Interface]) -> dict[str, Any]:
    """cloud-init's network config, version 2."""
    return {
        "version": 2,
        "ethernets": {f"nic{index}": _ethernet(each) for index, each in enumerate(interfaces)},
    }


def _ethernet(interface: Interface) -> dict[str, Any]:
    answer: dict[str, Any] = {"match": {"macaddress": interface.mac}}
    if not interface.static:
        answer |= {"dhcp4": True, "dhcp-identifier": "mac"}
    else:
        answer |= {"dhcp4": False, "addresses": [interface.static]}
        if interface.gateway:
            answer["routes"] = [{"to": "0.0.0.0/0", "via": interface.gateway}]
        if interface.dns:
            search = [interface.domain] if interface.domain else []
            answer["nameservers"] = {"addresses": list(interface.dns), "search": search}
    return answer


def _light(guest: Guest, keys: Keys, instance: str) -> str:
    return render.text(
        "seed/virtkit.sh.j2",
        former=(),
        instance_id=instance,
        hostname=guest.name,
        fqdn=guest.fqdn,
        host_key_private=keys.host_private,
        host_key_public=keys.host_public,
        **_changing(guest, keys.authorized),
    )


def update(
    guest: Guest,
    authorized: Sequence[str],
    leaving: Mapping[str, str] = MappingProxyType({}),
    former: Sequence[str] = (),
) -> str:
    """The script that brings a running guest up to date with its seed; it holds no secret.

    Args:
        former: the keys, in base64, that it was given and is no longer to let in.
        leaving: disks that are about to be unplugged, with their devices in the guest; one in
            use ends the script.
    """
    return render.text(
        "seed/update.sh.j2",
        light=guest.light,
        leaving=dict(leaving),
        former=former,
        cpus=guest.spec.cpus if guest.driver.root == "disk" else 0,
        **_changing(guest, authorized),
    )


def _changing(guest: Guest, authorized: Sequence[str]) -> dict[str, Any]:
    """What may change in the life of a guest."""
    mounts = _mounts(guest)
    return {
        "user": guest.spec.user,
        "authorized_keys": list(authorized),
        "links": [
            {
                "mac": each.mac,
                "name": each.network,
                "dhcp": not each.static,
                "addresses": [each.static] if each.static else [],
                "gateway": each.gateway or None,
                "dns": list(each.dns),
                "domain": each.domain or None,
                "accept_ra": True,
            }
            for each in guest.interfaces
        ],
        "mounts": mounts,
        "wanted": "".join(f" {each['label']}:{each['path']}" for each in mounts) + " ",
        "grow": guest.driver.root == "disk",
    }


def held(files: Mapping[str, str]) -> Keys | None:
    """The keys in the files of a seed that ``documents`` made; None where they can't be read."""
    try:
        data = json.loads(files["user-data"].partition("\n")[2])
        own = data["ssh_keys"]
        authorized = data["users"][0]["ssh_authorized_keys"]
        return Keys(list(authorized), own["ed25519_private"], own["ed25519_public"])
    except (KeyError, IndexError, TypeError, ValueError):
        return None


def instance(files: Mapping[str, str]) -> str:
    """The instance-id in the files of a seed that ``documents`` made; empty where there is none."""
    found = re.search(r"^instance-id: (\S+)$", files.get("meta-data", ""), re.MULTILINE)
    return found[1] if found else ""


def _mounts(guest: Guest) -> list[dict[str, str]]:
    """The disks that the guest itself mounts; libvirt mounts a container's."""
    if guest.driver.root != "disk":
        return []
    return [{"label": each.label, "path": each.mount} for each in guest.volumes if each.mount]


def _json(value: object) -> str:
    """JSON that is YAML too: cloud-init's reader knows no pairs of surrogates, but the characters
    that they stand for; all else beyond ASCII is escaped."""
    text = json.dumps(value, indent=1, ensure_ascii=False)
    return re.sub("[\x7f-\uffff]", lambda found: f"\\u{ord(found[0]):04x}", text) + "\n"
