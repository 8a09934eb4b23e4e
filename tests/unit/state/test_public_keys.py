"""Public keys as authorized_keys has them: read, told apart, named."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest
import samples
from hypothesis import given
from hypothesis import strategies as st

from virtkit.state import public_keys

KINDS = ("ed25519", "ecdsa", "rsa")


@pytest.mark.parametrize("kind", KINDS)
def test_named_as_ssh_keygen_names_them(kind: str, tmp_path: Path) -> None:
    path = tmp_path / "key"
    line = ["ssh-keygen", "-q", "-t", kind, "-N", "", "-C", "me@home", "-f", str(path)]
    subprocess.run(line, check=True)
    text = path.with_suffix(".pub").read_text()
    told = subprocess.run(
        ["ssh-keygen", "-l", "-f", str(path)], capture_output=True, text=True, check=True
    )
    (name,) = public_keys.names([text])
    assert name == f"me@home ({told.stdout.split()[1]})"
    assert public_keys.canonical([text]) == (text.strip(),)


@pytest.mark.parametrize(
    "line",
    [
        f'from="10.0.0.0/8,a b",command="echo ssh-rsa AAAA" {samples.PUBLIC} me here',
        f"restrict {samples.PUBLIC}",
        f'command="/bin/serve path averylongargument1 x" {samples.PUBLIC}',
        f'command="scp backupsofthewholehost backupsofthewholehost" {samples.PUBLIC} me',
        f"  {samples.PUBLIC}\tme  ",
    ],
)
def test_options_and_comments_are_no_part_of_a_key(line: str) -> None:
    assert public_keys.same([line], [samples.PUBLIC])
    (recorded,) = public_keys.canonical([line])
    assert recorded.startswith(samples.PUBLIC)
    assert public_keys.is_canonical(recorded)


@pytest.mark.parametrize(
    "line",
    [
        "",
        "some words with spaces",
        "ssh-ed25519",
        "ssh-ed25519 AAAA me",
        "ssh-ed25519 not/base64/not/base64 me",
        samples.PUBLIC.replace("ssh-ed25519", "ssh-rsa"),
        samples.PUBLIC[:40],
        "-----BEGIN OPENSSH PRIVATE KEY-----",
    ],
)
def test_what_is_no_key(line: str) -> None:
    assert public_keys.parse(line) is None
    assert public_keys.canonical([line]) == ()
    assert not public_keys.is_canonical(line)


@given(st.text(max_size=60), st.text(max_size=40))
def test_whatever_is_recorded_is_read_again(before: str, after: str) -> None:
    lines = f"{before} {samples.PUBLIC} {after}".splitlines()
    for each in public_keys.canonical(lines):
        assert public_keys.is_canonical(each)
        assert each.isprintable()
        assert public_keys.same([each], [samples.PUBLIC])


def test_both_while_they_change() -> None:
    other = public_keys.canonical([f"{samples.PUBLIC} another comment"])
    assert public_keys.joined(other, [samples.PUBLIC]) == (samples.PUBLIC,)
    assert public_keys.joined((), other) == other
    assert not public_keys.same(other, ())
