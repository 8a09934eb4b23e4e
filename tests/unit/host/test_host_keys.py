"""The keys by which ssh knows hosts, as ssh's own programs read and write them."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from virtkit.errors import VirtkitError
from virtkit.host import Remote, host_keys
from virtkit.host.host_keys import HostKey, SshSettings
from virtkit.spec import ssh_address
from virtkit.system import commands


def key(folder: Path, kind: str, host: str) -> HostKey:
    """A new key of a host, as a known_hosts has it."""
    path = folder / kind
    subprocess.run(["ssh-keygen", "-q", "-t", kind, "-N", "", "-f", path], check=True)
    public = " ".join(Path(f"{path}.pub").read_text().split()[:2])
    words = ["ssh-keygen", "-l", "-f", f"{path}.pub"]
    said = subprocess.run(words, check=True, capture_output=True, text=True).stdout.split()
    return HostKey(kind.upper(), said[1], f"{host} {public}")


def known(file: Path, name: str) -> list[tuple[str, int, bool]]:
    known = host_keys.known(SshSettings(name, file, (file,)))
    return [(str(each), each.number, each.revoked) for each in known]


def test_what_is_known_by_name_port_pattern_and_hash(tmp_path: Path) -> None:
    file = tmp_path / "a known_hosts"
    plain, port = key(tmp_path, "ed25519", "rack.test"), key(tmp_path, "ecdsa", "[rack.test]:7")
    host_keys.add(file, [plain, port])
    assert known(file, "rack.test") == [(str(plain), 1, False)]
    assert known(file, "[rack.test]:7") == [(str(port), 2, False)]
    assert known(file, "other.test") == []
    subprocess.run(["ssh-keygen", "-H", "-f", file], check=True, capture_output=True)
    assert "rack.test" not in file.read_text()
    assert known(file, "[rack.test]:7") == [(str(port), 2, False)]


def test_revoked_keys_are_marked_and_authorities_left_out(tmp_path: Path) -> None:
    file = tmp_path / "known_hosts"
    gone, authority = key(tmp_path, "ed25519", "*.test"), key(tmp_path, "ecdsa", "*.test")
    file.write_text(f"@revoked {gone.line}\n@cert-authority {authority.line}\n")
    assert known(file, "rack.test") == [(str(gone), 1, True)]


def test_what_stands_in_the_file_stays(tmp_path: Path) -> None:
    file = tmp_path / "new" / "known_hosts"
    host_keys.add(file, [HostKey("ED25519", "SHA256:x", "a key")])
    assert file.parent.stat().st_mode & 0o777 == 0o700
    file.write_text("# mine\nb key")  # no end of line
    host_keys.add(file, [HostKey("ED25519", "SHA256:x", "a key")])
    assert file.read_text() == "# mine\nb key\na key\n"


def test_a_file_that_can_not_be_written(tmp_path: Path) -> None:
    with pytest.raises(VirtkitError) as caught:
        host_keys.add(tmp_path, [])
    assert "ssh: {known_hosts: …}" in caught.value.cure


def test_settings_are_what_ssh_says(tmp_path: Path) -> None:
    own = tmp_path / "a file"
    settings = host_keys.settings(Remote("rack", "ops@rack.test", 7, "", str(own)))
    assert (settings.name, settings.file, settings.jumps) == ("[rack.test]:7", own, ())
    assert Path("/etc/ssh/ssh_known_hosts") in settings.files
    settings = host_keys.settings(Remote("rack", "rack.test"))
    assert settings.name == "rack.test"
    assert settings.file == Path("~/.ssh/known_hosts").expanduser()


JUMPS = {
    "jump": "virtkit host trust jump",
    "me@jump.test:2200": "ssh -p 2200 me@jump.test",
    "10.0.0.1": "virtkit host trust 10.0.0.1",
    "me@10.0.0.2:22": "ssh -p 22 me@10.0.0.2",
    "ssh://me@10.0.0.3": "virtkit host trust me@10.0.0.3",
    "[fd00::1]": "virtkit host trust fd00::1",
    "me@[fd00::1]:7": "ssh -p 7 me@fd00::1",
}


@pytest.mark.parametrize("jump", JUMPS)
def test_hosts_on_the_way_are_made_known_by_hand_where_they_have_a_port(
    jump: str, tmp_path: Path
) -> None:
    """As the caller's own settings name them, and as ssh then says it."""
    config = tmp_path / "config"
    config.write_text(f"ProxyJump first.test:7,{jump}\n")
    said = commands.run("ssh", "-F", str(config), "-G", "rack.test").stdout
    (jumps,) = (e.split()[1] for e in said.splitlines() if e.startswith("proxyjump "))
    cure = host_keys.jump_hosts_cure(SshSettings("rack", None, (), tuple(jumps.split(","))))
    first, line = cure.partition(": ")[2].split(" && ")
    assert (first, line) == ("ssh -p 7 first.test", JUMPS[jump])
    address = line.split()[-1]
    assert ssh_address(address) == address
    user, _, host = address.rpartition("@")
    shown = commands.run("ssh", "-F", "/dev/null", "-G", address).stdout.splitlines()
    assert f"hostname {host}" in shown
    assert not user or f"user {user}" in shown


def test_nobody_answers(tmp_path: Path) -> None:
    remote = Remote("rack", "ops@127.0.0.1", 1)
    with pytest.raises(VirtkitError) as caught:
        host_keys.fetch(remote, host_keys.settings(remote))
    assert "Connection refused" in caught.value.why
