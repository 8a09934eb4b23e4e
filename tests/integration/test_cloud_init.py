"""cloud-config as people bring it: six files of the kinds that go from lab to lab, in guests.

Containers, and one virtual machine for what only that has: disks and swap. None takes a package,
since the sandbox has no network.
"""

from __future__ import annotations

import base64
from collections.abc import Iterator
from pathlib import Path

import pytest
from integration.lab import Lab, laboratory, run

CASES = Path(__file__).parents[1] / "cases"
MINE = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIGQw4i1ynwqS1cMLVbFz7cYb1MtyGkVvSGW8d5r3aGvT mine"
#: Of the password "password", by crypt(3).
HASH = (
    "$6$abcdefgh$yVfUwsw5T.JApa8POvClA1pQ5peiq97DUNyXCZN5IrF.BMSkiaLQ5kvpuEm/"
    "VQ1Tvh/KV2TcaWh8qinoW5dhA1"
)

SPEC = f"""
name: brought
defaults: {{type: lxc, memory: 256MiB, ssh_keys: [id.pub]}}
guests:
  web:   # an application's user beside the default one, its files and its first commands
    cloud_init:
      groups:
        - www
        - ops: [root]
      users:
        - default
        - name: deploy
          gecos: Deployment
          primary_group: www
          groups: [ops, adm]
          shell: /bin/sh
          lock_passwd: no
          passwd: {HASH}
          sudo: no
          ssh_authorized_keys: [{MINE}]
      write_files:
        - path: /etc/app/app.conf
          owner: root:www
          defer: yes
          permissions: '0640'
          content: |
            listen = 8080
            debug = no
        - path: /srv/run.sh
          permissions: 0755
          content: "#!/bin/sh\\necho started >/srv/started\\n"
      runcmd:
        - [/srv/run.sh]
        - echo "$(id -un) at $(hostname)" > /srv/who
  login:   # the login itself, as cloud images' own user is written
    user: ops
    cloud_init:
      users:
        - name: ops
          shell: /bin/sh
          lock-passwd: off
          passwd: {HASH}
          groups: users, adm
          sudo: ALL=(ALL) NOPASSWD:ALL
          ssh-authorized-keys:
            - {MINE}
      ssh_pwauth: yes
      timezone: Europe/Berlin
      locale: C.UTF-8
  lab:   # a password for the console, a key at the top
    cloud_init:
      password: secret
      chpasswd: {{expire: no}}
      ssh_authorized_keys:
        - {MINE}
      disable_root: yes
      final_message: up after $UPTIME seconds
  short:   # the same in three words
    cloud_init:
      password: secret
  node:   # a node of a cluster: names, kernel settings, packages' sources, all by hand
    cloud_init:
      hostname: node
      fqdn: node.k8s.test
      prefer_fqdn_over_hostname: no
      manage_etc_hosts: no
      preserve_hostname: yes
      bootcmd:
        - [cloud-init-per, once, made, mkdir, -p, /etc/made]
      apt:
        preserve_sources_list: yes
        conf: |
          APT::Install-Recommends "no";
      package_update: no
      package_upgrade: no
      write_files:
        - {{path: /etc/sysctl.d/90-k8s.conf, content: "net.ipv4.ip_forward = 1\\n"}}
        - {{path: /etc/modules-load.d/k8s.conf, encoding: b64, content: YnJfbmV0ZmlsdGVyCg==}}
        - {{path: /etc/environment, append: on, content: "STAGE=lab\\n"}}
        - {{path: /home/virtkit/late, owner: 'virtkit:virtkit', defer: yes, content: x}}
      ntp: {{enabled: no}}
      runcmd:
        - test -d /etc/made && touch /etc/made/ran
  db:   # disks, as labs do that know nothing of `disks:` with `mount:`
    type: qemu
    memory: 320MiB
    disks: [{{name: data, size: 64MiB}}, {{name: more, size: 32MiB, mount: /srv/more}}]
    ready: {{timeout: 12m}}
    cloud_init:
      fs_setup:
        - {{label: dbdata, filesystem: ext4, device: /dev/vdb, overwrite: yes}}
      mounts:
        - [/dev/vdb, /var/lib/db, ext4, 'defaults,nofail', '0', '2']
        - [tmpfs, /mnt/fast, tmpfs, size=1m]
      mount_default_fields: [~, ~, auto, 'defaults,nofail', '0', '2']
      swap: {{filename: /swap.img, size: 16M, maxsize: 16M}}
      growpart: {{mode: off}}
      chpasswd:
        expire: no
        users:
          - {{name: virtkit, password: {HASH}}}
      users:
        - {{name: postgres, system: yes, homedir: /var/lib/db}}
"""
GUESTS = ("web", "login", "lab", "short", "node", "db")
#: The virtual machine boots for two minutes, and test_contract.py has one with a cloud_init.
EVERY = [pytest.param(each, marks=[pytest.mark.long] if each == "db" else []) for each in GUESTS]
SCHEMA = "cloud-init schema -c {} 2>&1 && echo valid || echo refused"
LOGINS = {"login": "ops"}
DISKS = "test_the_first_disk_is_the_second_device"


@pytest.fixture(scope="module")
def guests(request: pytest.FixtureRequest) -> tuple[str, ...]:
    """Those that are not left out."""
    chosen = " ".join(each.name for each in request.session.items)
    return tuple(each for each in GUESTS if each != "db" or "[db]" in chosen or DISKS in chosen)


@pytest.fixture(scope="module")
def lab(guests: tuple[str, ...], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    folder = tmp_path_factory.mktemp("brought")
    run("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "caller", "-f", folder / "id")
    with laboratory(folder, "brought", SPEC) as lab:
        report = lab.json("up", *guests)
        assert report["ok"], report
        for guest in guests:
            lab.sh(guest, "cloud-init status --wait >/dev/null || true")
        yield lab


def password(lab: Lab, guest: str, user: str) -> tuple[str, str]:
    """A user's password, as it is in /etc/shadow, and the day of its last change: 0 has expired."""
    fields = lab.sh(guest, f"getent shadow {user}").split(":")
    return fields[1], fields[2]


@pytest.mark.parametrize("guest", EVERY)
def test_it_comes_up_without_an_error_and_nothing_changes_after(lab: Lab, guest: str) -> None:
    assert lab.sh(guest, "cloud-init status") == "status: done"
    assert lab.sh(guest, "grep 'Running module .* failed' /var/log/cloud-init.log || true") == ""
    assert lab.json("plan", guest)["changes"] == []
    login = LOGINS.get(guest, "virtkit")
    said = lab.virtkit("ssh", guest, "--", "id -un; sudo -n id -un").out.split()
    assert said == [login, "root"]
    groups = lab.sh(guest, f"id -nG {login}").split()
    assert "adm" in groups
    assert "cdrom" not in groups, "what the image's own default user has is not the login's"
    assert lab.sh(guest, "getent passwd debian || true") == "", "that user isn't made beside it"


def test_every_seed_passes_cloud_inits_schema(lab: Lab, guests: tuple[str, ...]) -> None:
    """All that the cases expect, and what these guests have; with the image's cloud-init."""
    cases = {each.read_bytes() for each in CASES.glob("*/expected/*.user-data")}
    assert len(cases) > 5
    script = "".join(
        f"echo {base64.b64encode(data).decode()} | base64 -d >/tmp/x; {SCHEMA.format('/tmp/x')}\n"
        for data in cases
    )
    told = lab.sh("web", script).splitlines()
    assert [told.count("valid"), told.count("refused")] == [len(cases), 0], told
    for guest in guests:
        said = lab.sh(guest, SCHEMA.format("/var/lib/cloud/instance/user-data.txt"))
        assert said.endswith("valid"), (guest, said)


def test_users_groups_files_and_commands(lab: Lab) -> None:
    assert lab.sh("web", "id -gn deploy; id -nG deploy").split("\n") == ["www", "www adm ops"]
    assert password(lab, "web", "deploy")[0] == HASH, "`no` left it unlocked"
    assert "not allowed" in lab.sh("web", "sudo -l -U deploy")
    assert lab.sh("web", "cat ~deploy/.ssh/authorized_keys") == MINE
    assert lab.sh("web", "stat -c '%a %G' /etc/app/app.conf /srv/run.sh") == "640 www\n755 root"
    assert "debug = no" in lab.sh("web", "cat /etc/app/app.conf")
    assert lab.sh("web", "cat /srv/started /srv/who") == "started\nroot at web"


def test_an_entry_of_the_logins_name_is_laid_over_it(lab: Lab) -> None:
    assert lab.sh("login", "getent passwd ops").endswith(":/home/ops:/bin/sh")
    assert password(lab, "login", "ops")[0] == HASH
    keys = lab.sh("login", "cat ~ops/.ssh/authorized_keys")
    assert MINE in keys
    assert keys.count("caller") == 1
    assert "passwordauthentication yes" in lab.sh("login", "sshd -T")
    assert lab.sh("login", "readlink -f /etc/localtime").endswith("/Europe/Berlin")


@pytest.mark.parametrize("guest", ["lab", "short"])
def test_a_password_is_the_logins_and_does_not_expire(lab: Lab, guest: str) -> None:
    found, changed = password(lab, guest, "virtkit")
    assert found.startswith("$"), "not locked"
    assert changed != "0"


def test_keys_at_the_top_are_the_logins(lab: Lab) -> None:
    assert MINE in lab.sh("lab", "cat ~virtkit/.ssh/authorized_keys").splitlines()
    (root,) = [e for e in lab.sh("lab", "cat /root/.ssh/authorized_keys").splitlines() if MINE in e]
    assert 'login as the user \\"virtkit\\"' in root, "cloud-init closes root's login with them"


def test_keys_that_change_leave_those_of_cloud_init(lab: Lab) -> None:
    run("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "second", "-f", lab.folder / "id2")
    lab.write(SPEC.replace("[id.pub]", "[id2.pub]"))
    try:
        assert lab.json("up", "login")["ok"]
        keys = lab.sh("login", "cat ~ops/.ssh/authorized_keys")
        assert ["caller" in keys, "second" in keys, MINE in keys] == [False, True, True]
    finally:
        lab.write(SPEC)
        assert lab.json("up", "login")["ok"]


def test_a_nodes_names_sources_and_settings(lab: Lab) -> None:
    assert lab.sh("node", "hostname; cat /etc/environment; ls /etc/made") == "node\nSTAGE=lab\nran"
    assert lab.sh("node", "cat /etc/modules-load.d/k8s.conf") == "br_netfilter"
    assert lab.sh("node", "cat /etc/sysctl.d/90-k8s.conf") == "net.ipv4.ip_forward = 1"
    assert lab.sh("node", "stat -c %U /home/virtkit/late") == "virtkit"
    assert lab.sh("node", "apt-config dump APT::Install-Recommends").endswith('"no";')


@pytest.mark.long  # of that virtual machine
def test_the_first_disk_is_the_second_device(lab: Lab) -> None:
    names = "for each in vda vdb vdc vdd; do lsblk -dno SERIAL /dev/$each; done"
    assert lab.sh("db", names).split() == ["root", "data", "more", "seed"]
    assert lab.virsh("domblklist", "brought-db").split()[::2] == ["vda", "vdb", "vdc", "vdd"]
    mounted = "findmnt -no SOURCE,LABEL /var/lib/db; findmnt -no LABEL /srv/more"
    assert lab.sh("db", mounted).split() == ["/dev/vdb", "dbdata", "more"]
    assert lab.sh(
        "db", "findmnt -no FSTYPE /mnt/fast; swapon --show=NAME --noheadings"
    ).split() == [
        "tmpfs",
        "/swap.img",
    ]
    assert password(lab, "db", "virtkit")[0] == HASH
    assert lab.sh("db", "getent passwd postgres").split(":")[5] == "/var/lib/db"
