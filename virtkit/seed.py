"""The first boot of a guest: the files of its NoCloud seed, as text.

Pure. Sources: cloud-init's NoCloud, "Networking Config Version 2" and module reference pages.
"""

from __future__ import annotations

import base64
import json
import re
import shlex
from collections.abc import Iterator, Mapping, Sequence
from types import MappingProxyType
from typing import Any

from virtkit._dataclass import dataclass
from virtkit.state import given
from virtkit.state.desired import Guest, Interface
from virtkit.xml import render

#: How cloud-config calls the user that a system has by default.
_DEFAULT = "default"
#: What cloud-init takes for yes where it expects a truth value.
_TRUE = frozenset({"true", "1", "on", "yes"})
#: The seed's file with the keys that virtkit itself gave, where the login has others too.
_KEYS = "authorized_keys"
#: The guest's own note of what it was given, a token a line; that of a password has a mark.
_GIVEN, _PASSWORD = "/var/lib/virtkit/given", "password:"


@dataclass(frozen=True)
class SshKeys:
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


def files(guest: Guest, keys: SshKeys, instance: str) -> dict[str, str]:
    """The seed's files by name. ``instance`` is new for each life of the guest.

    Any image with cloud-init takes them; where the spec adds no cloud_init of its own, an
    image that virtkit built runs the short ``virtkit.sh`` instead.
    """
    answer = {
        "meta-data": f"instance-id: {instance}\nlocal-hostname: {guest.name}\n",
        "user-data": "#cloud-config\n" + _json(user_data(guest, keys)),
        "network-config": _json(network_config(guest.interfaces, guest.driver.card_mtu)),
    }
    if guest.skips_cloud_init:
        answer["virtkit.sh"] = _virtkit_script(guest, keys, instance)
    login, _ = users(_login(guest, keys), guest.spec.cloud_init)
    if login["ssh_authorized_keys"] != list(keys.authorized):
        answer[_KEYS] = "".join(f"{each.strip()}\n" for each in keys.authorized)
    return answer


def user_data(guest: Guest, keys: SshKeys) -> dict[str, Any]:
    """virtkit's own user-data with the spec's ``cloud_init`` merged in.

    Lists are appended to virtkit's own, other keys win over them. The login is cloud-init's default
    user, and what the spec says of a user of its name is laid over it.
    """
    spec = guest.spec.cloud_init
    login, others = users(_login(guest, keys), spec)
    own: dict[str, Any] = {
        "hostname": guest.name,
        "fqdn": guest.fqdn,
        "manage_etc_hosts": True,
        "users": [login, *others],
        "ssh_pwauth": False,
        # an interface that the guest got in its life, too
        "updates": {"network": {"when": ["boot"]}},
        # a container's layer has its size from the start
        "resize_rootfs": guest.driver.grows_filesystems,
    }
    if _default(login, spec):
        own["user"] = login
    if login["name"] == "root":
        own["disable_root"] = False
    if {"password", "chpasswd"} & spec.keys():
        # a password that has expired lets no key in either
        own["chpasswd"] = {"expire": False}
    options = "defaults,nofail,x-virtkit"
    mounts = [[f"LABEL={e['label']}", e["path"], "ext4", options, "0", "2"] for e in _mounts(guest)]
    mounts += [
        [each["tag"], each["path"], each["type"], each["options"], "0", "0"]
        for each in _folders(guest)
    ]
    if mounts:
        own["mounts"] = mounts
    if written := _written_files(guest):
        own["write_files"] = written
    if keys.host_private:
        own["ssh_deletekeys"] = True
        own["ssh_keys"] = {
            "ed25519_private": keys.host_private,
            "ed25519_public": keys.host_public,
        }
    handled = {"users", "user"} if "user" in own else {"users"}
    merged = merge(own, {key: value for key, value in spec.items() if key not in handled})
    files = merged.get("write_files")
    return merged | ({"write_files": [*map(_with_mode, files)]} if isinstance(files, list) else {})


def _with_mode(file: Any) -> Any:
    """A file to write with its mode as text: the number is as good for cloud-init, and its schema
    refuses it."""
    mode = file.get("permissions") if isinstance(file, Mapping) else None
    return {**file, "permissions": f"0{mode:o}"} if type(mode) is int and mode >= 0 else file


def _written_files(guest: Guest) -> list[dict[str, Any]]:
    """The guest's files as cloud-init writes them, and the note of what it was given.

    cloud-init writes files before it makes users and mounts disks, but for those that it defers to
    its end.
    """
    homes = ("/home/", *(f"{each['path']}/" for each in _mounts(guest)))
    answer: list[dict[str, Any]] = []
    for each in given.files(guest.spec, guest.requested):
        late = each.owner != "root:root" or each.path.startswith(homes)
        content = base64.b64encode(each.content).decode()
        answer.append(_written(each.path, each.mode, each.owner, content, late=late))
    tokens = _tokens(guest)
    if tokens:
        content = base64.b64encode("".join(f"{each}\n" for each in tokens).encode()).decode()
        late = any("defer" in each for each in answer)
        answer.append(_written(_GIVEN, "0600", "root:root", content, late=late))
    return answer


def _written(path: str, mode: str, owner: str, content: str, *, late: bool) -> dict[str, Any]:
    entry = {"path": path, "encoding": "b64", "content": content}
    entry |= {"permissions": mode, "owner": owner}
    return {**entry, "defer": True} if late else entry


def _tokens(guest: Guest) -> list[str]:
    """The tokens of all that the guest is given."""
    password = given.password(guest.spec, guest.requested)
    files = [each.token for each in given.files(guest.spec, guest.requested)]
    return [*files, *([f"{_PASSWORD}{password.token}"] if password else [])]


def _login(guest: Guest, keys: SshKeys) -> dict[str, Any]:
    """The user that virtkit logs in as, the same for both kinds of first boot.

    All that an image's own default user has is said here, else the login would have that.
    """
    password = given.password(guest.spec, guest.requested)
    kind = "hashed_passwd" if password and password.is_hash else "plain_text_passwd"
    return {
        "name": guest.spec.user,
        "gecos": "virtkit",
        "groups": ["adm"],
        "shell": "/bin/bash",
        "lock_passwd": password is None,
        **({kind: password.text} if password else {}),
        "sudo": "ALL=(ALL) NOPASSWD:ALL",
        "ssh_authorized_keys": list(keys.authorized),
    }


def _default(login: Mapping[str, Any], spec: Mapping[str, Any]) -> bool:
    """Whether the login is cloud-init's default user: the spec names no other one."""
    chosen = spec.get("user")
    name = chosen.get("name") if isinstance(chosen, Mapping) else chosen
    return name in (None, _DEFAULT, login["name"])


def users(
    login: Mapping[str, Any], spec: Mapping[str, Any]
) -> tuple[dict[str, Any], list[str | Mapping[str, Any]]]:
    """The login with all that ``spec`` says of it laid over it, and the other users.

    All forms that cloud-init takes ``user`` and ``users`` in.
    """
    own = dict(login)
    others: list[str | Mapping[str, Any]] = []
    names = {login["name"]} | ({_DEFAULT} if _default(login, spec) else set())
    chosen = spec.get("user")
    first = [chosen] if isinstance(chosen, Mapping) and _default(login, spec) else []
    for each in (*first, *_listed(spec.get("users", []))):
        if isinstance(each, str):
            others += [each] if each not in names else []
        elif "snapuser" in each or str(each.get("name", _DEFAULT)) not in names:
            others.append(each)
        else:
            own = _laid_over(own, each)
    return own, others


def _laid_over(login: Mapping[str, Any], entry: Mapping[str, Any]) -> dict[str, Any]:
    """A ``users`` entry over the login; its keys come to those that virtkit goes by."""
    over = {key.replace("-", "_"): value for key, value in entry.items()}
    keys = over.pop("ssh_authorized_keys", None) or []
    keys = [keys] if isinstance(keys, str) else list(_values(keys))
    login_keys = login["ssh_authorized_keys"]
    over["ssh_authorized_keys"] = [each for each in keys if each not in login_keys]
    return merge(login, over) | {"name": login["name"]}


def _values(collection: Any) -> Any:
    return collection.values() if isinstance(collection, Mapping) else collection


def _listed(entries: Any) -> Iterator[str | Mapping[str, Any]]:
    """The entries of ``users``, which cloud-init also takes as a map and as names with commas."""
    if isinstance(entries, str):
        yield from _flat(entries)
    elif isinstance(entries, Mapping):
        for name, value in entries.items():
            if isinstance(value, Mapping):
                yield {**value, "name": name}
            elif value is True or str(value).lower() in _TRUE:
                yield name
    else:
        for each in entries:
            yield from [each] if isinstance(each, Mapping) else _flat(each)


def _flat(names: str | Sequence[str]) -> Iterator[str]:
    for each in [names] if isinstance(names, str) else names:
        yield from (name for part in each.split(",") if (name := part.strip()))


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


def network_config(interfaces: Sequence[Interface], largest: int = 0) -> dict[str, Any]:
    """cloud-init's network config, version 2.

    Args:
        largest: bytes of the largest MTU that a guest may set itself; 0 for any.
    """
    return {
        "version": 2,
        "ethernets": {
            f"nic{index}": _ethernet(each, largest) for index, each in enumerate(interfaces)
        },
    }


def _mtu(interface: Interface, largest: int) -> int | None:
    """The MTU that the guest sets itself, in bytes; None where it takes what its card has."""
    mtu = interface.options.mtu
    return mtu if mtu is not None and (not largest or mtu <= largest) else None


def _ethernet(interface: Interface, largest: int = 0) -> dict[str, Any]:
    answer: dict[str, Any] = {"match": {"macaddress": interface.mac}}
    if mtu := _mtu(interface, largest):
        answer["mtu"] = mtu
    if interface.dhcp:
        answer |= {"dhcp4": True, "dhcp-identifier": "mac"}
        if interface.hostless:  # whether somebody answers there is not virtkit's to know
            answer["optional"] = True
    else:
        answer["dhcp4"] = False
    if fixed := _fixed(interface):
        answer["addresses"] = fixed
    gateways = (("0.0.0.0/0", interface.gateway), ("::/0", interface.gateway6))
    if routes := [{"to": to, "via": via} for to, via in gateways if via]:
        answer["routes"] = routes
    if interface.dns and not interface.dhcp:
        search = [interface.domain] if interface.domain else []
        answer["nameservers"] = {"addresses": list(interface.dns), "search": search}
    return answer


def _fixed(interface: Interface) -> list[str]:
    """The addresses that the seed gives an interface, in CIDR notation."""
    return [each for each in (interface.static, interface.static6) if each]


def _virtkit_script(guest: Guest, keys: SshKeys, instance: str) -> str:
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
    detaching: Mapping[str, str] = MappingProxyType({}),
    former: Sequence[str] = (),
) -> str:
    """The script that brings a running guest up to date with its seed; it may hold secrets.

    Args:
        former: the keys, in base64, that it was given and is no longer to let in; those that its
            ``cloud_init`` gives the login stay all the same.
        detaching: disks that are about to be unplugged, with their devices in the guest; one in
            use ends the script.
    """
    login, _ = users(_login(guest, SshKeys(authorized, "", "")), guest.spec.cloud_init)
    login_keys = " ".join(login["ssh_authorized_keys"])
    return render.text(
        "seed/update.sh.j2",
        skips_cloud_init=guest.skips_cloud_init,
        detaching=dict(detaching),
        former=[each for each in former if each not in login_keys],
        cpus=guest.spec.cpus if guest.driver.own_cpus else 0,
        **_changing(guest, authorized),
    )


def check(guest: Guest) -> str:
    """The script that looks whether a guest's first boot gave it its files and its password: it
    ends with 1 and tells which are missing."""
    password = given.password(guest.spec, guest.requested)
    lines = [(each.token, each.path) for each in given.files(guest.spec, guest.requested)]
    lines += [(f"{_PASSWORD}{password.token}", "the login's password")] if password else []
    tests = (
        f'grep -qsxF -e {token} {_GIVEN} || missing="$missing "{shlex.quote(what)}'
        for token, what in lines
    )
    text = "the first boot did not write:"
    end = f'[ -z "$missing" ] || {{ echo "{text}$missing" >&2; exit 1; }}'
    return "\n".join(["missing=", *tests, end])


def _changing(guest: Guest, authorized: Sequence[str]) -> dict[str, Any]:
    """What may change in the life of a guest."""
    mounts = _mounts(guest)
    return {
        "files": given.files(guest.spec, guest.requested),
        "password": given.password(guest.spec, guest.requested),
        "password_mark": _PASSWORD,
        "given": _GIVEN,
        "user": guest.spec.user,
        "authorized_keys": list(authorized),
        "interfaces": [
            {
                "mac": each.mac,
                "name": each.network,
                "dhcp": each.dhcp,
                "addresses": _fixed(each),
                "gateways": [gateway for gateway in (each.gateway, each.gateway6) if gateway],
                "dns": list(each.dns),
                "domain": each.domain or None,
                "accept_ra": not each.static6,
                "mtu": _mtu(each, guest.driver.card_mtu),
            }
            for each in guest.interfaces
        ],
        "mounts": mounts,
        "wanted": "".join(f" {each['label']}:{each['path']}" for each in mounts) + " ",
        "grow": guest.driver.grows_filesystems,
        "folders": _folders(guest),
        "folder_tags": "".join(f" {each['tag']}" for each in _folders(guest)) + " ",
        "mounts_folders": guest.driver.folders_by not in (None, "bind"),
    }


def keys_in(files: Mapping[str, str]) -> SshKeys | None:
    """The keys in the files of a seed that ``files`` made; None where they can't be read."""
    try:
        data = json.loads(files["user-data"].partition("\n")[2])
        own = data["ssh_keys"]
        login_keys = data["users"][0]["ssh_authorized_keys"]
        authorized = files[_KEYS].splitlines() if _KEYS in files else login_keys
        return SshKeys(list(authorized), own["ed25519_private"], own["ed25519_public"])
    except (KeyError, IndexError, TypeError, ValueError):
        return None


def instance_in(files: Mapping[str, str]) -> str:
    """The instance-id in the files of a seed that ``files`` made; empty where there is none."""
    match = re.search(r"^instance-id: (\S+)$", files.get("meta-data", ""), re.MULTILINE)
    return match[1] if match else ""


def _mounts(guest: Guest) -> list[dict[str, str]]:
    """The disks that the guest itself mounts; libvirt mounts a container's."""
    if not guest.driver.mounts_disks:
        return []
    return [{"label": each.label, "path": each.mount} for each in guest.volumes if each.mount]


def _folders(guest: Guest) -> list[dict[str, str]]:
    """The host's folders that the guest itself mounts; a container has them from the start."""
    return [each.mount for each in guest.folders if each.way != "bind"]


def _json(value: object) -> str:
    """JSON that is YAML too: cloud-init's reader knows no pairs of surrogates, but the characters
    that they stand for; all else beyond ASCII is escaped."""
    text = json.dumps(value, indent=1, ensure_ascii=False)
    return re.sub("[\x7f-\uffff]", lambda match: f"\\u{ord(match[0]):04x}", text) + "\n"
