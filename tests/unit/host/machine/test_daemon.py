"""The command of a cure is for the daemon that the machine has, in the state that it is in."""

from __future__ import annotations

import stat
from pathlib import Path

import pytest

from virtkit.host.machine.preparation import daemon, restart_command

UNITS = "lib/systemd/system"
ETC = "etc/systemd/system"


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A machine with systemd and nothing of libvirt's."""
    for folder in ("run/systemd/system", UNITS, ETC, "usr/sbin"):
        (tmp_path / folder).mkdir(parents=True)
    return tmp_path


def install(root: Path, *names: str) -> None:
    for name in names:
        for kind in (".service", ".socket", "-ro.socket", "-admin.socket"):
            (root / UNITS / f"{name}{kind}").write_text("[Unit]\n")
        (root / "usr/sbin" / name).write_text("")


def enable(root: Path, unit: str) -> None:
    folder = root / ETC / "sockets.target.wants"
    folder.mkdir(exist_ok=True)
    (folder / unit).symlink_to(f"/{UNITS}/{unit}")


def mask(root: Path, *units: str) -> None:
    for unit in units:
        (root / ETC / unit).symlink_to("/dev/null")


def test_debians(root: Path) -> None:
    install(root, "libvirtd")
    enable(root, "libvirtd.socket")
    for part in ("qemu", "lxc", "network"):
        command = restart_command(part, root)
        assert command == "sudo systemctl restart libvirtd", "and not its socket"


def test_fedoras(root: Path) -> None:
    """Both are installed, and the split ones are enabled."""
    install(root, "libvirtd", "virtqemud", "virtlxcd", "virtnetworkd")
    for name in ("virtqemud", "virtlxcd", "virtnetworkd"):
        enable(root, f"{name}.socket")
    assert restart_command("qemu", root) == "sudo systemctl restart virtqemud"
    assert restart_command("lxc", root) == "sudo systemctl restart virtlxcd"
    assert restart_command("network", root) == "sudo systemctl restart virtnetworkd"


def test_only_split_ones_are_installed(root: Path) -> None:
    install(root, "virtqemud")
    assert restart_command("qemu", root) == "sudo systemctl restart virtqemud"


def test_a_masked_one(root: Path) -> None:
    install(root, "libvirtd")
    mask(root, "libvirtd.service", "libvirtd.socket")
    assert restart_command("qemu", root) == (
        "sudo systemctl unmask libvirtd.service libvirtd.socket && sudo systemctl restart libvirtd"
    )


def test_the_one_that_is_not_masked_is_the_one_in_use(root: Path) -> None:
    install(root, "libvirtd", "virtqemud")
    mask(root, "libvirtd.service", "libvirtd.socket")
    assert restart_command("qemu", root) == "sudo systemctl restart virtqemud"


def test_masked_until_the_next_boot_and_by_an_empty_file(root: Path) -> None:
    install(root, "libvirtd")
    (root / "run/systemd/system/libvirtd.service").symlink_to("/dev/null")
    (root / ETC / "libvirtd-ro.socket").write_text("")
    command = "sudo systemctl unmask libvirtd.service libvirtd-ro.socket && sudo systemctl restart"
    assert restart_command("qemu", root).startswith(command)


@pytest.mark.parametrize(
    ("installed", "enabled", "name"),
    [
        (["libvirtd"], [], "libvirtd"),
        (["virtlxcd"], [], "virtlxcd"),
        (["libvirtd", "virtlxcd"], [], "virtlxcd"),
        (["libvirtd", "virtlxcd"], ["libvirtd.socket"], "libvirtd"),
        (["libvirtd", "virtlxcd"], ["libvirtd.socket", "virtlxcd.socket"], "libvirtd"),
    ],
)
def test_all_who_ask_get_the_same_daemon(
    root: Path, installed: list[str], enabled: list[str], name: str
) -> None:
    install(root, *installed)
    for unit in enabled:
        enable(root, unit)
    assert daemon("lxc", root) == name
    assert restart_command("lxc", root) == f"sudo systemctl restart {name}"


def test_without_systemd(root: Path, tmp_path: Path) -> None:
    install(root, "libvirtd")
    (root / "run/systemd/system").rmdir()
    command = restart_command("qemu", root, tmp_path / "none")
    assert command == "sudo virtlogd -d && sudo libvirtd -d"
    script = tmp_path / "a checkout" / "libvirt"
    script.parent.mkdir()
    script.write_text("#!/bin/sh\n")
    assert restart_command("qemu", root, script) == f"'{script}' restart"
    (root / "etc/init.d").mkdir()
    (root / "etc/init.d/libvirtd").write_text("#!/bin/sh\n")
    (root / "etc/init.d/libvirtd").chmod(stat.S_IRWXU)
    assert restart_command("qemu", root, script) == "sudo service libvirtd restart"


def test_nothing_is_installed(root: Path) -> None:
    assert restart_command("qemu", root) == "sudo apt-get install libvirt-daemon-system"
