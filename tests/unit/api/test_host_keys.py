"""Which keys of a host are known, new, or another's."""

from __future__ import annotations

from pathlib import Path

import pytest

from virtkit import api
from virtkit.api.host_keys import HostKeys, _check
from virtkit.errors import RequestError
from virtkit.host import Remote
from virtkit.host.host_keys import HostKey, KnownKey

FILE = Path("/home/me/.ssh/known hosts")
REMOTE = Remote("rack", "ops@rack.test", trust_command="virtkit host trust lab.yaml rack")
ED, RSA = HostKey("ED25519", "SHA256:ed"), HostKey("RSA", "SHA256:rsa")


def known(kind: str, fingerprint: str, *, revoked: bool = False) -> KnownKey:
    return KnownKey(kind, fingerprint, "", FILE, 3, revoked)


SAME, OTHER = known("ED25519", "SHA256:ed"), known("ED25519", "SHA256:old")


@pytest.mark.parametrize(
    "entries",
    [
        [],
        [SAME],
        [OTHER, SAME],  # one of several that are good
        [SAME, known("DSA", "SHA256:dsa")],  # a kind that it has no more
        [known("RSA", "SHA256:elsewhere", revoked=True)],
    ],
)
def test_nothing_is_wrong(entries: list[KnownKey]) -> None:
    _check(REMOTE, "rack.test", [ED, RSA], entries)


@pytest.mark.parametrize(
    "entries",
    [
        [OTHER],
        [SAME, known("RSA", "SHA256:old")],  # ssh might ask for that kind
        [known("DSA", "SHA256:old")],  # none that is known is there
    ],
)
def test_another_key_than_the_known_one(entries: list[KnownKey]) -> None:
    with pytest.raises(RequestError) as caught:
        _check(REMOTE, "[rack.test]:7", [ED, RSA], entries)
    assert "SHA256:old" in caught.value.why
    assert "SHA256:ed" in caught.value.why
    assert caught.value.cure.endswith(
        "ssh-keygen -R '[rack.test]:7' -f '/home/me/.ssh/known hosts' && "
        "virtkit host trust lab.yaml rack"
    )


def test_a_key_that_was_revoked() -> None:
    with pytest.raises(RequestError, match="revoked: ED25519 SHA256:ed"):
        _check(REMOTE, "rack.test", [ED], [known("ED25519", "SHA256:ed", revoked=True)])


def test_the_key_with_the_fingerprint_alone_is_taken(tmp_path: Path) -> None:
    file = tmp_path / "known_hosts"
    key = HostKey("RSA", "SHA256:rsa", "rack.test ssh-rsa AAAA")
    keys = HostKeys("rack", "ops@rack.test", (ED, key), file, known=False)
    with pytest.raises(RequestError, match="no key of host rack has the fingerprint SHA256:no"):
        api.trust_host(keys, "SHA256:no")
    assert not file.exists()
    assert api.trust_host(keys, "SHA256:rsa=") == (key,)
    assert file.read_text() == f"{key.line}\n"


def test_this_machine_is_not_reached_by_ssh() -> None:
    with pytest.raises(RequestError, match="is this machine"):
        api.find_host_keys("local")
