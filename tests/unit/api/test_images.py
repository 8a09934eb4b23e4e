"""Which images may be removed."""

from __future__ import annotations

import pytest

from virtkit.api.images import StoreEntry, _removable
from virtkit.errors import RequestError


def entry(
    host: str, *users: str, name: str = "debian-12", content: str = "0123456789"
) -> StoreEntry:
    return StoreEntry(name, content, "raw", 4096, True, users, host)


def test_it_is_removed_where_no_guest_uses_it() -> None:
    used, free = entry("local", "lab-a"), entry("xen1")
    other = entry("local", name="mine", content="abcdef0123")
    assert _removable([used, free, other], "debian-12") == [free]
    assert _removable([used, free, other], "012345") == [free]
    assert _removable([used, free, other], "mine") == [other]


def test_an_older_one_of_the_name_stays_with_the_one_in_use() -> None:
    older = entry("local", content="abcdef0123")
    with pytest.raises(RequestError, match="debian-12 is in use"):
        _removable([older, entry("local", "lab-a")], "debian-12")
    assert _removable([older, entry("local", "lab-a")], "abcdef") == [older]


def test_in_use_everywhere_it_stays() -> None:
    with pytest.raises(RequestError, match="debian-12 is in use") as caught:
        _removable([entry("local", "lab-a", "lab-b"), entry("xen1", "lab-c")], "debian-12")
    assert caught.value.why == "lab-a, lab-b use it; lab-c uses it"


@pytest.mark.parametrize("name", ["debian", "01234", ""])
def test_part_of_a_name_or_too_short_a_hash_is_none(name: str) -> None:
    with pytest.raises(RequestError, match="has no image"):
        _removable([entry("local")], name)


def test_the_names_in_json_stay() -> None:
    document = entry("local", "lab-a").as_dict()
    assert list(document) == ["name", "content", "format", "size", "made", "users", "host", "downs"]
