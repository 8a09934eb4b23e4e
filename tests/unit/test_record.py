"""What is written into libvirt is read back the same; what can't be read is a stranger's."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from lxml import etree

from virtkit import record
from virtkit.record import (
    GuestRecord,
    KeptDisk,
    LinkRecord,
    NetworkRecord,
    PoolRecord,
    StoredImage,
)
from virtkit.record import VolumeRecord as Volume
from virtkit.resources import ImageFiles, Reservation

words = st.text(max_size=12)
trees = st.recursive(
    st.none() | st.booleans() | st.integers() | words,
    lambda below: st.lists(below, max_size=3) | st.dictionaries(words, below, max_size=3),
    max_leaves=8,
)
wishes = st.dictionaries(words, trees, max_size=4)
files = st.builds(ImageFiles, words, words, words, st.integers(0), words, words)
volumes = st.builds(
    Volume, words, words, words, st.sampled_from(["wanted", "made", "doomed"]), st.booleans(), words
)
several = st.lists(words, max_size=3).map(tuple)
guests = st.builds(
    GuestRecord,
    environment=words,
    guest=words,
    type=words,
    spec=words,
    asked=wishes,
    image_identity=words,
    image=st.none() | files,
    links=st.lists(st.builds(LinkRecord, words, words, words, words), max_size=3).map(tuple),
    volumes=st.lists(volumes, max_size=3).map(tuple),
    host_key=words,
    instance=words,
    fqdn=words,
    rendered=words,
    rewritten=several,
    staged=st.dictionaries(words, words, max_size=3),
    leaving=several,
    finished=st.booleans(),
)
reservations = st.builds(Reservation, words, words, words, words, st.booleans())
networks = st.builds(
    NetworkRecord,
    words,
    words,
    words,
    wishes,
    words,
    st.lists(reservations, max_size=3).map(tuple),
    words,
    several,
)
images = st.builds(StoredImage, words, several, files, st.booleans())
pools = st.builds(
    PoolRecord,
    st.dictionaries(words, images, max_size=3),
    st.dictionaries(words, st.builds(KeptDisk, words, words, words, words), max_size=3),
)


def document(element: str) -> etree._Element:
    """A libvirt document that has ``element``, after libvirt read and wrote it."""
    stranger = '<x:app xmlns:x="urn:x">{"a": 1}</x:app>'
    text = f"<domain><name>a</name><metadata>{stranger}{element}</metadata></domain>"
    return etree.fromstring(etree.tostring(etree.fromstring(text)))


def carrying(tag: str, text: str) -> etree._Element:
    element = etree.Element(f"{{{record.NAMESPACE}}}{tag}")
    element.text = text
    return document(etree.tostring(element, encoding="unicode"))


def printable(found: GuestRecord | NetworkRecord) -> bool:
    """Names come from the spec, where they are labels; as XML attributes they must be so."""
    return all(each.isprintable() for each in (found.environment, getattr(found, "guest", "")))


@given(guests.filter(printable))
def test_guest_round_trip(found: GuestRecord) -> None:
    assert record.read_guest(document(record.guest_element(found))) == found


@given(networks.filter(lambda each: (each.environment + each.network).isprintable()))
def test_network_round_trip(found: NetworkRecord) -> None:
    assert record.read_network(document(record.network_element(found))) == found


@given(pools)
def test_pool_round_trip(found: PoolRecord) -> None:
    text = record.pool_text(found)
    assert record.read_pool(text) == found
    for cut in (1, len(text) // 2, len(text) - 1):
        assert record.read_pool(text[:cut]) is None, "half written"


EXAMPLE = GuestRecord(
    environment="lab",
    guest="web",
    type="qemu",
    spec="/specs/lab.yaml",
    asked={"memory": 1},
    image_identity="i",
    image=ImageFiles("c", "/pool/c", "raw", 5),
    volumes=(
        Volume("lab-web-root", "/pool/lab-web-root", "root"),
        Volume("lab-web-data", "/pool/lab-web-data", "disk", keep=True),
    ),
)


def test_attributes_tell_people_what_it_is() -> None:
    root = etree.fromstring(record.guest_element(EXAMPLE))
    assert root.tag == f"{{{record.NAMESPACE}}}guest"
    assert dict(root.attrib) == {"environment": "lab", "name": "web", "finished": "no"}
    bare = etree.fromstring(record.guest_element(EXAMPLE, bare=True))
    assert (bare.tag, bare.nsmap) == ("guest", {})


def test_states() -> None:
    made = EXAMPLE.with_state("made", "disk")
    assert [each.state for each in made.volumes] == ["made", "wanted"]
    assert EXAMPLE.domain == "lab-web"


def test_what_a_newer_virtkit_wrote_is_passed_over() -> None:
    data = json.loads(etree.fromstring(record.guest_element(EXAMPLE)).text or "")
    data |= {"new": {"a": 1}, "image": {**data["image"], "new": 1}}
    data["volumes"] = [{**each, "new": 1} for each in data["volumes"]]
    assert record.read_guest(carrying("guest", json.dumps(data))) == EXAMPLE


@pytest.mark.parametrize("field", ["environment", "asked", "image", "volumes", "type"])
def test_a_record_that_lacks_a_field_is_none(field: str) -> None:
    data = json.loads(etree.fromstring(record.guest_element(EXAMPLE)).text or "")
    del data[field]
    assert record.read_guest(carrying("guest", json.dumps(data))) is None


@pytest.mark.parametrize("text", ["", "{", "[]", "1", "null", '"guest"', "{}", "not ours"])
def test_text_that_is_no_record(text: str) -> None:
    assert record.read_guest(carrying("guest", text)) is None
    assert record.read_network(carrying("network", text)) is None
    assert record.read_pool(text) is None


@given(trees, st.sampled_from([*GuestRecord.__dataclass_fields__]), trees)
def test_nothing_in_metadata_ends_virtkit(any_json: Any, field: str, value: Any) -> None:
    data = json.loads(etree.fromstring(record.guest_element(EXAMPLE)).text or "")
    for content in (any_json, {**data, field: value}, {"images": any_json, "kept": value}):
        text = json.dumps(content)
        for read in (record.read_guest, record.read_network):
            found = read(carrying(read.__name__.removeprefix("read_"), text))
            assert found is None or found.environment == content["environment"]
        pool = record.read_pool(text)
        assert pool is None or isinstance(pool, PoolRecord)


def test_elements_of_others_are_none() -> None:
    other = record.guest_element(EXAMPLE).replace("urn:virtkit:1", "urn:virtkit:2")
    assert record.read_guest(document(other)) is None
    assert record.read_network(document(record.guest_element(EXAMPLE))) is None
    assert record.read_guest(etree.fromstring("<domain/>")) is None


def test_only_whole_images_count() -> None:
    whole = StoredImage("a", ("one", "two"), ImageFiles("a", "/a", "raw", 1), made=True)
    half = StoredImage("b", ("three",), ImageFiles("b", "/b", "raw", 1))
    found = PoolRecord({"a": whole, "b": half}).by_identity()
    assert found == {"one": whole.files, "two": whole.files}
