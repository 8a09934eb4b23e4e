"""What a prepared host has: on trees of files, mended by the commands that are told."""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from virtkit.host import hook, preparation, prepared

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
    }.items():
        write(root / name, text)
    return root


def write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


def names(root: Path) -> list[str]:
    return [each.name for each in preparation.lacks(root)]


def one(root: Path, name: str) -> preparation.Lack:
    (found,) = [each for each in preparation.lacks(root) if each.name == name]
    return found


def root_does(command: str, tools: Path) -> None:
    """A command, run by a shell; udev is not asked."""
    tools.mkdir(exist_ok=True)
    if not (tools / "udevadm").is_symlink():
        (tools / "udevadm").symlink_to("/bin/true")
    path = f"{tools}:{os.environ['PATH']}"
    subprocess.run(["sh", "-ec", command], check=True, cwd="/", env=os.environ | {"PATH": path})


def test_its_commands_mend_what_it_lacks(host: Path, tmp_path: Path) -> None:
    assert names(host) == NAMES
    for each in preparation.lacks(host):
        if each.name != "restart":
            root_does(each.command, tmp_path / "tools")
            assert each.name not in names(host)
    assert names(host) == ["restart"]
    write(host / "run/virtkit/hook", f"{hook.INTERFACE}")
    assert names(host) == []
    for each in preparation.installed(host):
        assert each.read_bytes() == Path(hook.__file__).read_bytes()
        assert os.access(each, os.X_OK)
    link = (host / "etc/systemd/network/80-virtkit.link").read_text()
    assert {"OriginalName=vnet*", "MACAddressPolicy=none"} <= {*link.splitlines()}
    assert (host / "proc/sys/fs/inotify/max_user_instances").read_text() == "1024\n"
    assert "max_user_instances=1024" in (host / "etc/sysctl.d/90-virtkit.conf").read_text()


def test_where_there_is_no_such_part_nothing_of_it_lacks(host: Path) -> None:
    (host / "run/udev/control").unlink()
    (host / "run/systemd/system").rmdir()
    (host / "proc/sys/fs/inotify/max_user_instances").unlink()
    assert names(host) == ["hook", "restart"]


def test_a_masked_link_file_is_an_administrators_will(host: Path) -> None:
    path = host / "etc/systemd/network/80-virtkit.link"
    path.parent.mkdir(parents=True)
    path.symlink_to("/dev/null")
    assert "udev" not in names(host)


@pytest.mark.parametrize("file", ["80-virtkit.link", "hook"])
def test_what_an_older_version_installed_is_replaced(host: Path, file: str, tmp_path: Path) -> None:
    path = host / "etc/systemd/network" / file
    name = "udev"
    if file == "hook":
        path, name = preparation.installed(host)[1], "hook"
    root_does(one(host, name).command, tmp_path / "tools")
    path.write_text("older\n")
    root_does(one(host, name).command, tmp_path / "tools")
    assert name not in names(host)


@pytest.mark.parametrize(
    "setting",
    ["", "#URIS=lxc:///system", "URIS=default", "URIS='default'  # ours", "export URIS=default"],
)
def test_libvirt_guests_gets_containers(host: Path, tmp_path: Path, setting: str) -> None:
    path = host / "etc/default/libvirt-guests"
    path.write_text(f"ON_BOOT=ignore\n{setting}")  # with no end of line
    root_does(one(host, "libvirt-guests").command, tmp_path / "tools")
    assert "libvirt-guests" not in names(host)
    said = subprocess.run(
        ["sh", "-c", '. "$1"; echo "$URIS, $ON_BOOT"', "-", path], capture_output=True, text=True
    )
    assert said.stdout == "default lxc:///system, ignore\n"


def test_libvirt_guests_has_no_file_of_settings(host: Path, tmp_path: Path) -> None:
    path = host / "etc/default/libvirt-guests"
    path.unlink()
    root_does(one(host, "libvirt-guests").command, tmp_path / "tools")
    assert path.read_text().splitlines()[-1] == 'URIS="default lxc:///system"'


@pytest.mark.parametrize(
    "setting",
    ["URIS=qemu:///system", 'URIS="default xen:///system"', "URIS=", "URIS='default", "URIS=$MINE"],
)
def test_an_administrators_own_uris_are_left_alone(host: Path, setting: str) -> None:
    path = host / "etc/default/libvirt-guests"
    path.write_text(f"URIS=default\n{setting}\n")
    found = one(host, "libvirt-guests")
    assert found.command == ""
    assert found.cure == f"add lxc:///system to URIS in {path}"


@pytest.mark.parametrize(
    "setting", ["URIS='default lxc:///system'", "URIS=lxc:///", "  URIS=lxc:///x"]
)
def test_an_administrator_has_thought_of_containers(host: Path, setting: str) -> None:
    write(host / "etc/default/libvirt-guests", f"URIS=default\n{setting}\n")
    assert "libvirt-guests" not in names(host)


def test_enough_inotify_instances(host: Path) -> None:
    write(host / "proc/sys/fs/inotify/max_user_instances", "512\n")
    assert "inotify" not in names(host)


def test_the_hook_is_there_and_libvirtd_does_not_know_it(host: Path, tmp_path: Path) -> None:
    found = prepared.unprepared(host)
    assert found is not None
    assert (found.why, found.cure) == (
        "libvirt's hook for virtkit is not installed",
        prepared.install_command(host),
    )
    root_does(preparation.hook_command(host), tmp_path / "tools")
    found = prepared.unprepared(host)
    assert found is not None
    assert found.why == "libvirtd was not restarted since its hook came"
    write(host / "run/virtkit/hook", preparation.interface())
    assert prepared.unprepared(host) is None
    preparation.installed(host)[0].write_text("another")
    assert (prepared.unprepared(host), prepared.outdated(host)) == (None, True)
    write(host / "run/virtkit/hook", "0")
    found = prepared.unprepared(host)
    assert found is not None
    assert found.why == "libvirt's hook was installed by another version of virtkit"


def test_without_systemd_the_checkout_restarts_libvirtd(host: Path) -> None:
    (host / "run/systemd/system").rmdir()
    write(host / "usr/sbin/libvirtd", "")
    script, verb = shlex.split(preparation.restart_command(host))
    assert (Path(script).is_file(), verb) == (True, "restart")


def test_its_interface_is_the_hooks() -> None:
    assert preparation.interface() == str(hook.INTERFACE)
    assert preparation.ready(Path("/nowhere")) == ""
    assert str(Path("/") / "run/virtkit/hook") == hook.READY


def test_the_program_needs_nothing_but_its_neighbours(tmp_path: Path) -> None:
    """Its commands stand a folder with spaces, quotes and umlauts."""
    folder = tmp_path / "it's a ü" / "host"
    folder.mkdir(parents=True)
    for each in (Path(preparation.__file__), preparation.HOOK, preparation.LINK):
        shutil.copy(each, folder)
    script = """
import runpy, sys
module = runpy.run_path(sys.argv[1])
print(module["hook_command"](module["Path"](sys.argv[2])))
"""
    line = [sys.executable, "-IS", "-c", script, folder / "preparation.py", tmp_path / "a root"]
    command = subprocess.run(line, capture_output=True, text=True, check=True).stdout
    root_does(command, tmp_path / "tools")
    installed = preparation.installed(tmp_path / "a root")
    assert all(each.read_bytes() == preparation.HOOK.read_bytes() for each in installed)
    told = subprocess.run(
        [sys.executable, "-IS", folder / "preparation.py", "lacks"],
        capture_output=True,
        text=True,
        check=True,
    )
    assert all(len(line.split("\t")) == 4 for line in told.stdout.splitlines())
    failed = subprocess.run([sys.executable, "-IS", folder / "preparation.py"], capture_output=True)
    assert failed.returncode == 1


def test_an_ordinary_user_can_type_the_cure() -> None:
    words = shlex.split(preparation.as_root("install 'a b' /c && systemctl restart d"))
    if os.geteuid() == 0:
        assert words == ["install", "a b", "/c", "&&", "systemctl", "restart", "d"]
    else:
        assert words == ["sudo", "sh", "-c", "install 'a b' /c && systemctl restart d"]
