"""What is missing on a host of what a prepared one has: on trees of files."""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from virtkit.host.machine import preparation, userns
from virtkit.host.programs import lxc_hook

REPO = Path(__file__).parents[4]

DEBIANS = (
    '# URIs to check for running guests\n# example: URIS="default xen:///system"\n#URIS=default\n'
)
NAMES = ["hook", "restart", "udev", "libvirt-guests", "inotify"]


@pytest.fixture
def host(tmp_path: Path) -> Path:
    """An unprepared Debian, in a folder whose name a shell would split."""
    root = tmp_path / "a host's ü"
    for name in ("etc/libvirt/hooks", "run/systemd/system"):
        (root / name).mkdir(parents=True)
    for name, text in {
        "run/udev/control": "",
        "usr/lib/systemd/system/libvirtd.service": "[Unit]\n",
        "usr/lib/systemd/system/libvirt-guests.service": "[Unit]\n",
        "etc/default/libvirt-guests": DEBIANS,
        "proc/sys/fs/inotify/max_user_instances": "128\n",
        "etc/os-release": "NAME=Debian\nID=debian\n",
    }.items():
        write(root / name, text)
    return root


def write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


def names(root: Path) -> list[str]:
    return [each.name for each in preparation.missing_items(root)]


def missing(root: Path, name: str) -> preparation.Missing:
    (item,) = [each for each in preparation.missing_items(root) if each.name == name]
    return item


def give_hook(root: Path) -> None:
    for each in preparation.hook_paths(root):
        write(each, preparation.HOOK_FILE.read_text())


def test_what_is_missing_goes_as_it_is_given(host: Path) -> None:
    """The playbook gives it: tests/integration/test_host_playbook.py."""
    assert names(host) == NAMES
    assert {each.cure for each in preparation.missing_items(host)} == {"virtkit host prepare local"}
    give_hook(host)
    write(host / "etc/systemd/network/80-virtkit.link", preparation.LINK_FILE.read_text())
    write(host / "etc/default/libvirt-guests", 'URIS="default lxc:///system"')
    write(host / "proc/sys/fs/inotify/max_user_instances", "1024\n")
    assert names(host) == ["restart"]
    write(host / "run/virtkit/hook", f"{lxc_hook.INTERFACE}")
    assert names(host) == []
    link = preparation.LINK_FILE.read_text()
    assert {"OriginalName=vnet*", "MACAddressPolicy=none"} <= {*link.splitlines()}


STATUS = """Package: {}
Essential: yes
Status: {}
Version: 1

"""


def test_packages_that_are_missing(host: Path) -> None:
    """Removed ones are, whose settings were kept; where there is no dpkg, nobody knows."""
    wanted = preparation.packages()
    assert {"libvirt-daemon-system", "qemu-utils", "libvirt-daemon-driver-lxc"} <= {*wanted}
    text = "".join(STATUS.format(each, "install ok installed") for each in wanted)
    write(host / "var/lib/dpkg/status", text)
    assert "packages" not in names(host)
    write(
        host / "var/lib/dpkg/status",
        text.replace(
            STATUS.format("qemu-utils", "install ok installed"),
            STATUS.format("qemu-utils", "deinstall ok config-files"),
        ),
    )
    assert missing(host, "packages").why == "packages are missing: qemu-utils"


@pytest.mark.skipif(os.uname().machine != "x86_64", reason="its kernel is for x86_64")
def test_other_distributions_may_not_pack_user_mode_linux(host: Path) -> None:
    text = "".join(STATUS.format(each, "install ok installed") for each in preparation.packages())
    write(host / "var/lib/dpkg/status", text.replace("user-mode-linux", "x"))
    assert missing(host, "packages").why == "packages are missing: user-mode-linux"
    write(host / "etc/os-release", "NAME=Ubuntu\nID=ubuntu\nID_LIKE=debian\n")
    assert "packages" not in names(host)


def test_the_list_of_packages_is_for_a_machine_and_its_uses() -> None:
    """An essential package has more lines, and comments are none."""
    assert preparation.packages("aarch64", uses=["kvm"]) == [
        "libvirt-daemon-driver-qemu",
        "ovmf",
        "qemu-system-arm",
        "qemu-utils",
        "swtpm",
        "swtpm-tools",
    ]
    assert "user-mode-linux" not in preparation.packages("aarch64")
    xen = {*preparation.packages("x86_64", uses=["xen"])} - {"qemu-utils"}  # which kvm has, too
    assert "xen-system-amd64" in xen
    assert not xen & {*preparation.packages("x86_64")}


def test_where_there_is_no_such_part_nothing_of_it_is_missing(host: Path) -> None:
    (host / "run/udev/control").unlink()
    (host / "run/systemd/system").rmdir()
    (host / "proc/sys/fs/inotify/max_user_instances").unlink()
    assert names(host) == ["hook", "restart"]


def test_a_masked_link_file_is_an_administrators_will(host: Path) -> None:
    path = host / "etc/systemd/network/80-virtkit.link"
    path.parent.mkdir(parents=True)
    path.symlink_to("/dev/null")
    assert "udev" not in names(host)


@pytest.mark.parametrize("name", ["udev", "hook"])
def test_what_an_older_version_installed_is_replaced(host: Path, name: str) -> None:
    path = host / "etc/systemd/network/80-virtkit.link"
    if name == "hook":
        give_hook(host)
        path = preparation.hook_paths(host)[1]
    write(path, "older\n")
    assert name in names(host)


@pytest.mark.parametrize(
    "setting",
    ["", "#URIS=lxc:///system", "URIS=default", "URIS='default'  # ours", "export URIS=default"],
)
def test_libvirt_guests_as_debian_has_it_lacks_containers(host: Path, setting: str) -> None:
    write(host / "etc/default/libvirt-guests", f"ON_BOOT=ignore\n{setting}")
    assert missing(host, "libvirt-guests").advice == ""


@pytest.mark.parametrize(
    "setting",
    ["URIS=qemu:///system", 'URIS="default xen:///system"', "URIS=", "URIS='default", "URIS=$MINE"],
)
def test_an_administrators_own_uris_are_left_alone(host: Path, setting: str) -> None:
    path = host / "etc/default/libvirt-guests"
    path.write_text(f"URIS=default\n{setting}\n")
    missing_item = missing(host, "libvirt-guests")
    assert missing_item.cure == f"add lxc:///system to URIS in {path}"


@pytest.mark.parametrize(
    "setting", ["URIS='default lxc:///system'", "URIS=lxc:///", "  URIS=lxc:///x"]
)
def test_an_administrator_has_thought_of_containers(host: Path, setting: str) -> None:
    write(host / "etc/default/libvirt-guests", f"URIS=default\n{setting}\n")
    assert "libvirt-guests" not in names(host)


def test_enough_inotify_instances(host: Path) -> None:
    write(host / "proc/sys/fs/inotify/max_user_instances", "512\n")
    assert "inotify" not in names(host)


def test_the_hook_is_there_and_libvirtd_does_not_know_it(host: Path) -> None:
    assert userns.no_userns(host) == ("libvirt's hook for virtkit is not installed", "prepare")
    give_hook(host)
    why = "libvirtd was not restarted since its hook was installed"
    assert userns.no_userns(host) == (why, "restart")
    write(host / "run/virtkit/hook", preparation.shipped_interface())
    assert userns.no_userns(host) is None
    preparation.hook_paths(host)[0].write_text("another")
    assert (userns.no_userns(host), preparation.hook_outdated(host)) == (None, True)
    write(host / "run/virtkit/hook", "0")
    why = "libvirt's hook was installed by another version of virtkit"
    assert userns.no_userns(host) == (why, "prepare")


def test_without_systemd_the_checkout_restarts_libvirtd(host: Path) -> None:
    (host / "run/systemd/system").rmdir()
    write(host / "usr/sbin/libvirtd", "")
    script, verb = shlex.split(preparation.restart_command("lxc", host))
    assert (Path(script).is_file(), verb) == (True, "restart")


def test_its_interface_is_the_hooks() -> None:
    assert preparation.shipped_interface() == str(lxc_hook.INTERFACE)
    assert preparation.loaded_interface(Path("/nowhere")) == ""
    assert str(Path("/") / "run/virtkit/hook") == lxc_hook.READY


@pytest.mark.parametrize("place", ["virtkit", "site-packages/virtkit"])
def test_the_program_needs_nothing_but_its_neighbours(tmp_path: Path, place: str) -> None:
    """In a checkout and in an installed virtkit."""
    folder = tmp_path / "it's a ü" / place
    package = Path(preparation.__file__).parents[2]
    for each in (Path(preparation.__file__), preparation.HOOK_FILE, preparation.LINK_FILE):
        at = folder / each.relative_to(package)
        at.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(each, at)
    list_of = "playbooks/roles/packages/files/Debian.list"
    beside = folder.parent if place == "virtkit" else folder
    write(beside / list_of, (REPO / list_of).read_text())
    done = {}
    for verb in ("missing", "packages", "daemon", "nonsense"):
        line = [sys.executable, "-IS", folder / "host/machine/preparation.py", verb]
        done[verb] = subprocess.run(line, capture_output=True, text=True, check=False)
    assert [each.returncode for each in done.values()] == [0, 0, 0, 1]
    assert done["packages"].stdout.split() == preparation.packages()
    assert all(len(line.split("\t")) == 2 for line in done["missing"].stdout.splitlines())


def test_scripts_know_the_same_packages() -> None:
    script = ". scripts/setup; host_packages"
    done = subprocess.run(
        ["sh", "-euc", script, "scripts/up"], cwd=REPO, capture_output=True, text=True, check=True
    )
    assert sorted(done.stdout.split()) == preparation.packages()
