"""What a guest's keys take from files beside the spec and from the environment."""

from __future__ import annotations

from pathlib import Path

import pytest

from virtkit.errors import SpecErrors
from virtkit.plan.resolve import requested
from virtkit.spec import Spec, load
from virtkit.spec.model import MAX_FILES_SIZE
from virtkit.spec.model.ignition import MAX_IGNITION_SIZE

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
    for guest, word in (
        ("{password: {env: LAB_PASSWORD}}", "s3cret word"),
        ("{password: {file: word}}", "in a file"),
        (f"{{password: '{HASH}'}}", HASH),
    ):
        spec = read(guest)
        web = spec.guests["web"]
        assert (web.password_text, web.cloud_init) == (word, {})
        recorded = requested(spec, web)
        assert word not in str(recorded), "no record holds it"
        assert len(recorded["password"]) == 20
        assert word not in repr(spec)
        if word != HASH:
            assert word not in str(web.requested)


def test_files_have_their_content_from_where_the_spec_says(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("LAB_TOKEN", "s3cret token")
    binary = bytes(range(256))
    Path("blob").write_bytes(binary)
    spec = read(
        "{files: [{path: /etc/a, source: blob}, {path: /etc/b, content: {env: LAB_TOKEN}},"
        " {path: /etc/c, content: {file: ./blob}}, {path: /etc/d, content: text é}]}"
    )
    web = spec.guests["web"]
    assert web.file_contents == {
        "/etc/a": binary,
        "/etc/b": b"s3cret token",
        "/etc/c": binary,
        "/etc/d": "text é".encode(),
    }
    spec.check_references()
    recorded = requested(spec, web)["files"]
    assert [each["path"][-1] for each in recorded] == ["a", "b", "c", "d"]
    assert {*recorded[0]} == {"path", "mode", "owner", "content"}
    for text in (str(recorded), repr(spec), str(web.requested)):
        assert "s3cret" not in text
    assert "text é" not in str(recorded) + repr(spec)


def test_another_content_is_another_digest_and_each_guest_has_its_own() -> None:
    digests = []
    for content in (b"a", b"a", b"b"):
        Path("blob").write_bytes(content)
        spec = read("{count: 2, files: [{path: /etc/a, source: blob}]}")
        digests.append([requested(spec, e)["files"][0]["content"] for e in spec.guests.values()])
    assert digests[0] == digests[1]
    assert len({each for pair in digests for each in pair}) == 4, "salted by the guest"


def test_files_of_an_included_spec_are_beside_it() -> None:
    Path("base").mkdir()
    Path("base/motd").write_text("hello")
    Path("base/base.yaml").write_text(
        "defaults: {files: [{path: /a, source: motd}, {path: /b, content: {file: motd}},"
        " {path: /c, content: motd}]}"
    )
    Path("lab.yaml").write_text("include: [base/base.yaml]\nname: lab\nguests: {web: {}}\n")
    web = load("lab.yaml").guests["web"]
    assert web.file_contents == {"/a": b"hello", "/b": b"hello", "/c": b"motd"}


def test_files_are_not_larger_than_a_seed_bears() -> None:
    Path("big").write_bytes(b"x" * (MAX_FILES_SIZE + 1))
    Path("half").write_bytes(b"x" * (MAX_FILES_SIZE // 2 + 1))
    (one,) = unread("{files: [{path: /a, source: big}]}")
    assert one.startswith("lab.yaml:3:36 guests.web.files[0].source: the file 'big' is larger tha")
    assert "virtkit cp" in one
    (both,) = unread("{files: [{path: /a, source: half}, {path: /b, source: half}]}")
    assert "guests.web.files: the guest's files have more than 512 KiB together" in both
    Path("half").write_bytes(b"x" * (MAX_FILES_SIZE // 2))
    read("{files: [{path: /a, source: half}, {path: /b, source: half}]}").check_references()


CONFIG = '{"ignition": {"version": "3.3.0"}, "x": "s3cret"}'
NO_SEED = "image: debian-12-cloud"


def test_an_ignition_file_is_no_part_of_what_is_recorded(monkeypatch: pytest.MonkeyPatch) -> None:
    Path("a.ign").write_text(CONFIG)
    monkeypatch.setenv("LAB_IGNITION", CONFIG)
    digests = []
    for words in ("a.ign", "{file: a.ign}", "{env: LAB_IGNITION}"):
        spec = read(f"{{{NO_SEED}, ignition: {words}}}")
        spec.check_references()
        guest = spec.guests["web"]
        assert guest.ignition_bytes == CONFIG.encode()
        assert "s3cret" not in repr(spec) + str(guest.requested)
        digests.append(requested(spec, guest)["ignition"])
    assert len(set(digests)) == 1, "wherever it is"
    Path("a.ign").write_text(CONFIG.replace("s3cret", "other"))
    spec = read(f"{{{NO_SEED}, ignition: a.ign}}")
    assert requested(spec, spec.guests["web"])["ignition"] != digests[0]
    assert "ignition" not in requested(read("{}"), read("{}").guests["web"])


def test_an_ignition_file_of_an_included_spec_is_beside_it() -> None:
    Path("base").mkdir()
    Path("base/a.ign").write_text(CONFIG)
    for words in ("a.ign", "{file: a.ign}"):
        Path("base/base.yaml").write_text(f"defaults: {{{NO_SEED}, ignition: {words}}}")
        Path("lab.yaml").write_text("include: [base/base.yaml]\nname: lab\nguests: {web: {}}\n")
        assert load("lab.yaml").guests["web"].ignition_bytes == CONFIG.encode()


def test_an_ignition_file_is_not_larger_than_4_mib() -> None:
    Path("big").write_bytes(b" " * (MAX_IGNITION_SIZE + 1))
    (one,) = unread("{ignition: big}")
    assert one.startswith("lab.yaml:3:19 guests.web.ignition: the file 'big' is larger than 4096")
    assert "merge" in one


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
        ("{password: {file: a}}", "b\nc\n", "lab.yaml:3:26 guests.web.password.file: the passw"),
        ("{password: {file: a}}", "\n", "lab.yaml:3:26 guests.web.password.file: the password is"),
        (
            "{files: [{path: /a, source: gone}]}",
            "",
            "lab.yaml:3:36 guests.web.files[0].source: there is no file 'gone'; correct its path",
        ),
        (
            "{files: [{path: /a, source: .}]}",
            "",
            "lab.yaml:3:36 guests.web.files[0].source: '.' is a folder",
        ),
        (
            "{files: [{path: /a, source: /dev/null}]}",
            "",
            "lab.yaml:3:36 guests.web.files[0].source: there is no plain file '/dev/null'",
        ),
        (
            "{files: [{path: /a, content: {env: NOT_SET_AT_ALL}}]}",
            "",
            "lab.yaml:3:43 guests.web.files[0].content.env: the variable 'NOT_SET_AT_ALL' is not",
        ),
        ("{ignition: gone}", "", "lab.yaml:3:19 guests.web.ignition: there is no file 'gone'"),
        ("{ignition: .}", "", "lab.yaml:3:19 guests.web.ignition: '.' is a folder"),
        ("{ignition: {env: NOT_SET}}", "", "lab.yaml:3:25 guests.web.ignition.env: the variable"),
        (
            "{ignition: a}",
            "variant: fcos\n",
            "lab.yaml:3:19 guests.web.ignition: this is no Ignition file; make one of a Butane",
        ),
        (
            "{ignition: {file: a}}",
            '{"ignition": {"version": 3}}',
            "lab.yaml:3:9 guests.web.ignition: this is no Ignition file; begin it with",
        ),
        ("{ignition: a}", "[" * 100_000, "lab.yaml:3:19 guests.web.ignition: this is no Ignition"),
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
