"""What libvirt's daemons do under running guests, and guests that are paused when they are to stop.

The guests are boot sectors that hear the power button.
"""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from integration.lab import Lab, domains, laboratory, printed, run, tiny_disk, until, virsh
from integration.ordinary_user import USER, machine

from virtkit.host.machine import preparation

SPEC = """
name: daemons
images: {tiny: {path: tiny.raw}, small: {path: tiny.qcow2}}
networks: {front: {cidr: 10.94.33.0/24}}
defaults: {type: qemu, memory: 32MiB, ready: none, networks: [front]}
guests:
  a: {image: tiny}
  b: {image: small}
"""
PID = Path("/run/libvirt/libvirtd.pid")


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    folder = tmp_path_factory.mktemp("daemons")
    (folder / "tiny.raw").write_bytes(tiny_disk())
    run("qemu-img", "convert", "-O", "qcow2", folder / "tiny.raw", folder / "tiny.qcow2")
    with laboratory(folder, "daemons", SPEC, XDG_CACHE_HOME=str(folder / "cache")) as lab:
        yield lab


@pytest.fixture
def up(lab: Lab) -> Lab:
    lab.virtkit("up")
    for name in ("a", "b"):
        assert until(lambda name=name: "tiny: tick" in last_life(name), 60), printed(name)
    return lab


def last_life(guest: str) -> list[str]:
    """What a guest printed since it booted last."""
    lines = printed(f"daemons-{guest}")
    ups = [number for number, line in enumerate(lines) if line == "tiny: up"]
    return lines[ups[-1] :] if ups else []


def notes(report: dict[str, object]) -> list[str]:
    steps = report["steps"]
    assert isinstance(steps, list)
    return [each["note"] for each in steps if "note" in each]


# --- the chain of a root disk ------------------------------------------------------------------


def test_the_domain_says_what_its_root_is_backed_by(up: Lab) -> None:
    """Else AppArmor's helper has to look for itself, and may only do so in libvirt's folders."""
    for name, form in (("a", "raw"), ("b", "qcow2")):
        for words in (("--inactive",), ()):
            xml = virsh("dumpxml", f"daemons-{name}", *words)
            disk = re.search(r"<backingStore type='file'.*?</backingStore>", xml, re.DOTALL)
            assert disk is not None, xml
            assert f"<format type='{form}'/>" in disk.group()
            assert re.search(r"<source file='\S+/virtkit-\w+\.root'", disk.group())
    up.virtkit("plan", "--exit-code")


def test_a_guest_of_0_1_0_gets_it_with_its_next_definition(lab: Lab, tmp_path: Path) -> None:
    """One that was defined without; and nothing restarts for it."""
    old = tmp_path / "old.xml.j2"
    text = (Path(__file__).parents[2] / "templates" / "qemu.xml.j2").read_text()
    chain = re.compile(r" *\{%- if [^%]*backed.*?endif %\}\n", re.DOTALL)
    bare = chain.sub("", text, count=1)
    assert "backingStore" not in bare
    old.write_text(bare)
    shutil.copy(lab.folder / "tiny.raw", tmp_path / "tiny.raw")
    spec = SPEC.replace("daemons", "older").replace(", small: {path: tiny.qcow2}", "")
    spec = spec.replace("  b: {image: small}\n", "").replace("33.0", "34.0")
    with laboratory(tmp_path, "older", spec, **lab.settings) as older:
        older.write(spec.replace("{image: tiny}", "{image: tiny, template: old.xml.j2}"))
        older.virtkit("up")
        assert "backingStore" not in virsh("dumpxml", "older-a", "--inactive")
        pid = Path("/run/libvirt/qemu/older-a.pid").read_text()
        older.write(spec)
        (change,) = older.json("plan")["changes"]
        older.virtkit("up")
        assert "backingStore" in virsh("dumpxml", "older-a", "--inactive")
        assert Path("/run/libvirt/qemu/older-a.pid").read_text() == pid
        assert change["action"] == "update"
        older.virtkit("plan", "--exit-code")


# --- paused guests -------------------------------------------------------------------------------


@pytest.mark.parametrize("pause", [("virtkit",), ("virsh",)])
def test_a_paused_guest_is_asked_to_stop(up: Lab, pause: tuple[str]) -> None:
    if pause == ("virtkit",):
        up.virtkit("pause", "a")
    else:
        virsh("suspend", "daemons-a")
    assert up.status("a")["state"] == "paused"
    report = up.json("stop", "a")
    assert last_life("a")[-1] == "tiny: off", "it shut down by itself"
    assert notes(report) == []


def test_a_paused_guest_is_restarted(up: Lab) -> None:
    up.virtkit("pause", "a")
    before = printed("daemons-a").count("tiny: up")
    offs = printed("daemons-a").count("tiny: off")
    up.virtkit("restart", "a")
    assert until(lambda: printed("daemons-a").count("tiny: up") == before + 1, 30)
    assert printed("daemons-a").count("tiny: off") == offs + 1, "it shut down by itself"
    assert up.status("a")["state"] == "running"


def test_what_is_done_to_a_guest_that_does_not_stop_is_told(up: Lab) -> None:
    """Its hypervisor process is stopped, so it can neither be resumed nor asked."""
    virsh("suspend", "daemons-a")
    os.kill(int(Path("/run/libvirt/qemu/daemons-a.pid").read_text()), signal.SIGSTOP)
    said = up.virtkit("stop", "a", "--timeout", "3").err
    assert "note: guest/a stop: " in said
    assert "it was forced off" in said
    assert up.status("a")["state"] == "stopped"
    assert notes(up.json("stop", "b", "--timeout", "0")) == [], "that was asked for"


# --- daemons that end ----------------------------------------------------------------------------


def end_libvirtd(number: signal.Signals = signal.SIGTERM) -> None:
    pid = int(PID.read_text())
    os.kill(pid, number)
    assert until(lambda: not Path(f"/proc/{pid}/exe").exists(), 30)


def start_libvirtd() -> None:
    run("libvirtd", "-d", "-p", PID, stdin=subprocess.DEVNULL)
    assert until(
        lambda: not subprocess.run(["virsh", "-c", "qemu:///system", "uri"]).returncode, 30
    )


class Followed:
    """A `logs --follow` whose lines go to a file."""

    def __init__(self, lab: Lab, path: Path) -> None:
        self.out = path
        with path.open("w") as out:
            self.process = subprocess.Popen(
                lab.line("logs", "--follow"),
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=subprocess.PIPE,
                text=True,
                env=os.environ | lab.settings,
            )

    def lines(self, guest: str) -> int:
        return self.out.read_text().count(f"{guest} | tiny: tick")

    def says(self) -> str:
        """What it told of itself; it ends."""
        self.process.kill()
        return self.process.communicate()[1]

    def goes_on(self, guest: str) -> bool:
        before = self.lines(guest)
        return until(lambda: self.lines(guest) > before, 40)


@pytest.mark.timeout(600)
def test_logs_are_followed_through_a_restart_of_libvirt(up: Lab, tmp_path: Path) -> None:
    followed = Followed(up, tmp_path / "out")
    try:
        for number in (signal.SIGTERM, signal.SIGKILL):
            for guest in ("a", "b"):  # one that is still being found would end with an error
                assert followed.goes_on(guest), followed.says()
            end_libvirtd(number)
            time.sleep(1)
            start_libvirtd()
            for guest in ("a", "b"):
                assert followed.goes_on(guest), followed.says()
        virsh("destroy", "daemons-a")
        virsh("destroy", "daemons-b")
        _, said = followed.process.communicate(timeout=30)
    finally:
        followed.process.kill()
    assert followed.process.returncode == 0
    assert "Traceback" not in said
    assert "waiting at most" in said


@pytest.mark.long
@pytest.mark.timeout(300)
def test_logs_end_with_an_error_where_libvirt_does_not_come_back(up: Lab, tmp_path: Path) -> None:
    followed = Followed(up, tmp_path / "out")
    try:
        assert followed.goes_on("a")
        end_libvirtd()
        _, said = followed.process.communicate(timeout=200)
    finally:
        followed.process.kill()
        start_libvirtd()
    assert followed.process.returncode == 1
    assert "Traceback" not in said
    errors = [line for line in said.splitlines() if line.startswith("error:")]
    assert len(errors) == 2, "of each guest"
    assert "cure:" in said


def test_without_libvirtd_nothing_was_touched(up: Lab) -> None:
    end_libvirtd()
    try:
        for verb in ("plan", "up", "status", "down", "stop"):
            (error,) = up.json(verb, code=2)["errors"]
            assert error["what"].startswith("open qemu:///system failed")
            assert preparation.restart_command() in error["cure"]
        checks = up.json("doctor", code=2)["checks"]
        (told,) = [each for each in checks if each["name"] == "libvirt"]
        assert preparation.restart_command() in told["cure"]
    finally:
        start_libvirtd()
    assert len(domains()) == 2


def test_whoever_may_not_ask_is_told_what_to_do(up: Lab) -> None:
    """As a user outside the group where no polkit is; with it the code is another."""
    path = Path("/run/libvirt/libvirt-sock")
    mode = path.stat().st_mode
    path.chmod(0o700)
    try:
        with machine() as plain:
            spec = plain.folder / up.spec.name
            spec.write_text("guests: {a: {type: lxc}}\n")
            spec.chmod(0o644)
            done = plain.run(*plain.virtkit("plan", spec))
    finally:
        path.chmod(mode)
    assert done.returncode == 2, done
    assert f"usermod -aG libvirt {USER}" in done.stderr
    assert "namei" not in done.stderr


def test_a_dnsmasq_that_ended_is_told(up: Lab, end: Callable[[str], None]) -> None:
    assert not any("dnsmasq" in each for each in up.json("plan")["notes"])
    end("daemons-front")
    (note,) = [each for each in up.json("plan")["notes"] if "dnsmasq" in each]
    assert note.startswith("network/front: ")
    assert preparation.restart_command("network") in note
    (check,) = [e for e in up.json("doctor")["checks"] if e["name"] == "network daemons-front"]
    assert (check["ok"], check["cure"]) == (False, preparation.restart_command("network"))
    assert "dnsmasq" in check["what"]
    end_libvirtd()  # as the cure says
    start_libvirtd()
    assert not any("dnsmasq" in each for each in up.json("plan")["notes"])


@pytest.fixture
def end() -> Callable[[str], None]:
    def end(network: str) -> None:
        pid = int(Path(f"/run/libvirt/network/{network}.pid").read_text())
        os.kill(pid, signal.SIGKILL)
        assert until(lambda: not Path(f"/proc/{pid}/exe").exists(), 10)

    return end
