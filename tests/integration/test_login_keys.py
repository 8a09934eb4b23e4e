"""Whose keys open a guest: keys that come later, other users, exchanged keys, agents.

A user here is a home folder: keys are the caller's. The guest is a container; what decides is
the same on all types.
"""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from integration.keys import can_log_in, cut_off, new_key
from integration.lab import Lab, laboratory, restart_libvirtd, run, until
from integration.ordinary_user import Machine, machine

SPEC = """
name: whose
defaults: {type: lxc, memory: 128MiB}
guests:
  one: {KEYS}
"""
DENIED = "does not let you in"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("whose")


def user(folder: Path, name: str) -> Lab:
    """The same spec in the hands of a user with this home folder."""
    home = folder / name
    home.mkdir(exist_ok=True)
    return Lab(folder, "whose", {"HOME": str(home), "XDG_CACHE_HOME": os.environ["XDG_CACHE_HOME"]})


@pytest.fixture(scope="module")
def alice(folder: Path) -> Iterator[Lab]:
    """She has no key when the guest is made."""
    lab = user(folder, "alice")
    with laboratory(folder, "whose", SPEC.replace("KEYS", ""), **lab.settings) as lab:
        lab.virtkit("up")
        yield lab


def test_who_makes_a_key_later_is_not_locked_out(alice: Lab) -> None:
    new_key(alice.folder / "alice/.ssh/id_ed25519")
    assert can_log_in(alice, "one")
    assert alice.json("plan")["changes"] == []
    assert alice.json("plan")["notes"] == []


def test_ssh_config_is_included_above_the_callers_own(alice: Lab) -> None:
    """Where its own first lines say, so that nothing of the caller's comes first."""
    text = alice.virtkit("ssh-config").out
    (include,) = [each.lstrip("# ") for each in text.splitlines() if "  Include " in each]
    assert include == "Include ~/.ssh/virtkit-whose"
    block, own = alice.folder / "virtkit-whose", alice.folder / "own"
    block.write_text(text)
    rest = "Host *\n  User nobody\n  ProxyJump bastion.invalid\n  IdentityFile /dev/null\n"
    own.write_text(f"{include.replace('~/.ssh', str(alice.folder))}\n{rest}")
    assert run("ssh", "-F", own, "whose-one", "id -un").strip() == "virtkit"


def test_another_user_is_told_whose_guest_it_is(alice: Lab) -> None:
    bob = user(alice.folder, "bob")
    new_key(alice.folder / "bob/.ssh/id_ed25519")
    plan = bob.json("plan")
    assert plan["changes"] == []
    (note,) = plan["notes"]
    assert "guest/one accepts only virtkit whose (SHA256:" in note
    ran = bob.virtkit("ssh", "one", "--", "true", code=255)
    assert DENIED in ran.err
    assert "virtkit whose (SHA256:" in ran.err
    assert "password:" not in ran.err, "nobody is asked for one"
    began = bob.virtkit("restart")
    assert began.elapsed < 60, "it is ready, whoever it lets in"
    assert bob.json("up")["ok"]


def test_another_users_home_is_not_the_one_that_the_spec_means(alice: Lab) -> None:
    """bob's key has the name of hers. The spec's file is hers, as it is when she says sudo."""
    before = alice.spec.read_text()
    alice.write(SPEC.replace("KEYS", "ssh_keys: [~/.ssh/id_ed25519.pub]"))
    assert alice.json("up")["ok"]
    bob = user(alice.folder, "bob")
    assert [each["object"] for each in bob.json("plan")["changes"]] == ["guest/one"]
    os.chown(alice.spec, 1000, 1000)
    try:
        assert bob.json("plan")["changes"] == []
        bob.write(alice.spec.read_text().replace("128MiB", "136MiB"))
        assert {each["field"] for each in bob.json("plan")["changes"][0]["reasons"]} == {"memory"}
        assert bob.json("up")["ok"]
        assert can_log_in(alice, "one", alice.folder / "alice/.ssh/id_ed25519")
        assert not can_log_in(bob, bob.folder / "bob/.ssh/id_ed25519")
    finally:
        os.chown(alice.spec, 0, 0)
    alice.write(before)
    assert alice.json("up")["ok"]


def test_a_spec_that_names_a_key_opens_a_running_guest(alice: Lab) -> None:
    """And what an ordinary user's ssh has to do, root's namespaces do here."""
    new_key(alice.folder / "k")
    alice.write(SPEC.replace("KEYS", "ssh_keys: [k.pub]"))
    assert alice.json("up")["ok"]
    assert can_log_in(alice, "one")
    assert can_log_in(alice, "one", alice.folder / "k")
    assert not can_log_in(
        alice, "one", alice.folder / "alice/.local/share/virtkit/whose/id_ed25519"
    )


@pytest.mark.parametrize("kind", ["ecdsa", "rsa"])
def test_keys_of_any_kind_that_ssh_takes(alice: Lab, kind: str) -> None:
    """It is ready by the key that opens it, and by no other."""
    before = alice.spec.read_text()
    run("ssh-keygen", "-q", "-t", kind, "-N", "", "-f", alice.folder / kind)
    alice.write(SPEC.replace("KEYS", f"ssh_keys: [{kind}.pub]"))
    assert alice.json("up")["ok"]
    assert can_log_in(alice, "one")
    assert alice.virtkit("restart").elapsed < 60
    alice.write(before)
    assert alice.json("up")["ok"]


@contextmanager
def known(plain: Machine) -> Iterator[None]:
    """A libvirtd that knows a machine's user, and lets all users in: no polkit tells them apart."""
    path = Path("/etc/libvirt/libvirtd.conf")
    before = path.read_text() if path.exists() else ""
    path.write_text(f'{before}\nauth_unix_rw = "none"\n')
    for name in ("passwd", "group"):
        run("mount", "--bind", plain.folder / "etc" / name, f"/etc/{name}")
    restart_libvirtd()
    try:
        yield
    finally:
        run("umount", "/etc/passwd", "/etc/group")
        path.write_text(before)
        restart_libvirtd()


def test_an_ordinary_user_changes_keys_of_a_running_guest(alice: Lab) -> None:
    """By ssh and the key that the guest lets in until then: namespaces are root's."""
    assert alice.domains(), "its image is in the pool"
    with machine() as plain, known(plain):
        spec = plain.folder / "ops.yaml"

        def does(*words: str, keys: str = "") -> subprocess.CompletedProcess[str]:
            text = SPEC.replace("whose", "whose-ops").replace("KEYS", keys)
            spec.write_text(text)
            spec.chmod(0o644)
            verb, *rest = words
            done = plain.run(*plain.virtkit(verb, spec, *rest))
            assert done.returncode == 0, (words, done.stdout, done.stderr)
            return done

        key = plain.home / "new"
        look = "cut -d' ' -f22 /proc/1/stat"  # when its first process began
        try:
            does("up")
            made = plain.run("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", key)
            assert made.returncode == 0, made
            keys = f"ssh_keys: [{key}.pub]"
            before = does("ssh", "one", "--", look).stdout
            does("up", keys=keys)
            (plain.home / ".local/share/virtkit/whose-ops/id_ed25519").unlink()
            assert does("ssh", "one", "--", look, keys=keys).stdout == before, "no restart"
            assert "nothing to change" in does("plan", keys=keys).stdout
            assert does("exec", "one", "--", "id", "-u", keys=keys).stdout == "0\n"
            key.unlink()
            for verb in ("ssh", "exec"):  # as whoever has none of its keys
                done = plain.run(*plain.virtkit(verb, spec, "one", "--", "id", "-u"))
                assert done.returncode not in (0, 124), done
                assert "ops@" in done.stderr, "it says whose key it lets in"
                assert "password:" not in done.stderr
        finally:
            does("down")


def test_exchanged_under_the_same_name(alice: Lab) -> None:
    old = alice.folder / "old"
    for end in ("", ".pub"):
        (alice.folder / f"k{end}").rename(f"{old}{end}")
    new_key(alice.folder / "k")
    (change,) = alice.json("plan")["changes"]
    (reason,) = change["reasons"]
    assert (reason["field"], reason["cause"], reason["effect"]) == ("ssh_keys", "spec", "live")
    assert reason["from"][0].startswith("k (SHA256:")
    assert alice.json("up")["ok"]
    assert can_log_in(alice, "one")
    assert not can_log_in(alice, "one", old)
    assert alice.json("plan")["changes"] == []


def test_the_public_key_belongs_to_another_private_one(alice: Lab) -> None:
    """A key that can't be used here is no failure of the guest's."""
    other = new_key(alice.folder / "other")
    (alice.folder / "k").write_bytes(other.read_bytes())
    assert alice.virtkit("restart").elapsed < 60
    alice.virtkit("ssh", "one", "--", "true", code=255)


def test_a_passphrase_and_an_agent_with_seven_others(alice: Lab) -> None:
    for end in ("", ".pub"):
        (alice.folder / f"k{end}").unlink()
    new_key(alice.folder / "k", passphrase="secret")
    socket = alice.folder / "agent"
    with subprocess.Popen(["ssh-agent", "-D", "-a", socket], stdout=subprocess.DEVNULL) as agent:
        try:
            assert until(socket.exists, 10)
            agents = os.environ | {"SSH_AUTH_SOCK": str(socket)}
            for number in range(7):
                key = new_key(alice.folder / f"others/{number}")
                run("ssh-add", "-q", key, env=agents)
            held = Lab(alice.folder, "whose", alice.settings | {"SSH_AUTH_SOCK": str(socket)})
            assert held.json("up")["ok"], "nobody can use the key here, and the guest is well"
            assert held.json("plan")["changes"] == []
            ask = alice.folder / "ask"
            ask.write_text("#!/bin/sh\necho secret\n")
            ask.chmod(0o755)
            words = {"SSH_ASKPASS": str(ask), "SSH_ASKPASS_REQUIRE": "force"}
            run("ssh-add", "-q", alice.folder / "k", env=agents | words)
            assert can_log_in(held, "one")
            (alice.folder / "k").unlink()
            assert can_log_in(held, "one"), "the agent's, by its public half"
            assert held.virtkit("restart").elapsed < 60
        finally:
            agent.terminate()


# what is killed is one code for all types, and a virtual machine costs minutes; CI has the first
# call of each function
@pytest.mark.parametrize(
    ("type", "first"),
    [
        pytest.param("qemu", False, marks=pytest.mark.long),
        pytest.param("lxc", False, marks=pytest.mark.long),
        ("lxc", True),
    ],
)
def test_it_converges_wherever_it_is_cut_off(tmp_path: Path, type: str, first: bool) -> None:
    text = SPEC.replace("whose", "cut").replace("lxc", type).replace("KEYS", "ssh_keys: [KEYS]")
    with laboratory(tmp_path, "cut", text.replace("128MiB", "256MiB")) as lab:
        assert cut_off(lab, "one", lab.spec.read_text(), first=first) > (2 if first else 5)


def test_cloud_init_follows_though_it_minds_its_first_boot_only(tmp_path: Path) -> None:
    """Keys change while the guest is off, or goes off for them."""
    text = SPEC.replace("whose", "later").replace(
        "{KEYS}", "{ssh_keys: [KEYS], cloud_init: {timezone: Etc/UTC}}"
    )
    one, other = (new_key(tmp_path / name) for name in ("one", "other"))
    with laboratory(tmp_path, "later", text.replace("KEYS", "one.pub")) as lab:
        lab.virtkit("up")
        lab.virtkit("stop")
        lab.write(text.replace("KEYS", "other.pub")).virtkit("up")
        assert can_log_in(lab, "one", other)
        assert not can_log_in(lab, "one", one)
        more = "memory: 192MiB, max: {memory: 256MiB}, ssh_keys: [one.pub]"
        lab.write(text.replace("ssh_keys: [KEYS]", more)).virtkit("up", "--restart")
        assert can_log_in(lab, "one", one)
        assert not can_log_in(lab, "one", other)
        assert lab.json("plan")["changes"] == []
