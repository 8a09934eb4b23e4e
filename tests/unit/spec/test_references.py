"""What a guest's keys take from files beside the spec and from the environment."""

from __future__ import annotations

from pathlib import Path

import pytest

from virtkit.errors import SpecErrors
from virtkit.plan.resolve import requested
from virtkit.spec import Spec, load

HASH = "$6$rounds=1000$saltsalt$" + "a" * 86


@pytest.fixture(autouse=True)
def lab(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def read(guest: str) -> Spec:
    Path("lab.yaml").write_text(f"name: lab\nguests:\n  web: {guest}\n")
    return load("lab.yaml")


def unread(guest: str) -> list[str]:
    """What stops whoever would make the guest; who only reads the spec is not stopped."""
    spec = read(guest)
    assert list(spec.guests) == ["web"]
    spec.check_references([])
    with pytest.raises(SpecErrors) as caught:
        spec.check_references()
    return [f"{each.where}: {each.what}; {each.cure}" for each in caught.value.every()]


def test_a_file_of_cloud_config_lies_under_cloud_init() -> None:
    Path("web.yaml").write_text(
        "#cloud-config\npackages: [git]\nntp: {enabled: no, servers: [a]}\nruncmd: [[ls, -l]]\n"
    )
    web = read("{user_data: web.yaml, cloud_init: {packages: [nginx], ntp: {servers: null}}}")
    guest = web.guests["web"]
    assert guest.cloud_init == {
        "packages": ["nginx"],
        "ntp": {"enabled": False},
        "runcmd": [["ls", "-l"]],
    }
    assert guest.requested["cloud_init"] == {"packages": ["nginx"], "ntp": {}}
    web.check_references()
    assert web.where(("guests", "web", "cloud_init", "runcmd")).startswith("web.yaml:4:")


def test_a_change_of_the_file_is_a_change_of_the_guest() -> None:
    digests = []
    for package in ("git", "git", "vim"):
        Path("web.yaml").write_text(f"#cloud-config\npackages: [{package}]\n")
        spec = read("{user_data: web.yaml}")
        digests.append(requested(spec, spec.guests["web"])["cloud_init"])
    assert digests[0] == digests[1] != digests[2]


def test_a_password_comes_from_the_environment_or_a_file(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LAB_PASSWORD", "s3cret word")
    Path("word").write_text("in a file\n")
    login = {"name": "virtkit", "lock_passwd": False}
    for guest, key, word in (
        ("{password: {env: LAB_PASSWORD}}", "plain_text_passwd", "s3cret word"),
        ("{password: {file: word}}", "plain_text_passwd", "in a file"),
        (f"{{password: '{HASH}'}}", "hashed_passwd", HASH),
    ):
        spec = read(guest)
        web = spec.guests["web"]
        assert web.cloud_init == {"users": [login | {key: word}]}
        assert word not in str(requested(spec, web)), "no record holds it"
        assert word not in repr(spec)
        if key != "hashed_passwd":
            assert word not in str(web.requested)
    both = read(
        "{user: eve, password: {env: LAB_PASSWORD}, cloud_init: {users: [bob], runcmd: [ls]}}"
    )
    assert both.guests["web"].cloud_init == {
        "users": [{"name": "eve", "lock_passwd": False, "plain_text_passwd": "s3cret word"}, "bob"],
        "runcmd": ["ls"],
    }


@pytest.mark.parametrize(
    ("guest", "text", "error"),
    [
        ("{user_data: gone.yaml}", "", "lab.yaml:3:20 guests.web.user_data: there is no file 'gon"),
        ("{user_data: a}", "#!/bin/sh\nls\n", "lab.yaml:3:20 guests.web.user_data: 'a' is not clo"),
        (
            "{user_data: a}",
            "#cloud-config\n[a]\n",
            "lab.yaml:3:20 guests.web.user_data: 'a' is a",
        ),
        ("{user_data: a}", "#cloud-config\na: [\n", "a:3:1: this is not valid YAML"),
        ("{user_data: a}", "#cloud-config\na: !x b\n", "a:2:4 guests.web.cloud_init.a: the tag"),
        ("{password: {env: NOT_SET_AT_ALL}}", "", "lab.yaml:3:25 guests.web.password.env: the var"),
        ("{password: {file: gone}}", "", "lab.yaml:3:26 guests.web.password.file: there is no fi"),
    ],
)
def test_what_can_not_be_read(guest: str, text: str, error: str) -> None:
    Path("a").write_text(text)
    (first,) = unread(guest)
    assert first.startswith(error)


def test_the_guest_of_a_number_has_its_own_file() -> None:
    for name in ("a", "b"):
        Path(f"{name}.yaml").write_text(f"#cloud-config\nhostname: {name}\n")
    spec = read("{count: 2, user_data: a.yaml, each: {2: {user_data: b.yaml}}}")
    assert [e.cloud_init["hostname"] for e in spec.guests.values()] == ["a", "b"]
