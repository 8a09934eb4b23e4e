"""What is written into libvirt is read back the same; what can't be read is a stranger's."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from typing import Any

import pytest
import samples
from hypothesis import given
from hypothesis import strategies as st
from lxml import etree

from virtkit.drivers import DRIVERS
from virtkit.spec import CATALOGUE
from virtkit.state import record, record_text
from virtkit.state.desired import ImageFiles, Reservation
from virtkit.state.record import (
    GuestRecord,
    InterfaceRecord,
    KeptDisk,
    NetworkRecord,
    PoolRecord,
    StoredImage,
    VolumeRecord,
    VolumeState,
)

texts = st.text(max_size=12)
trees = st.recursive(
    st.none() | st.booleans() | st.integers() | texts,
    lambda below: st.lists(below, max_size=3) | st.dictionaries(texts, below, max_size=3),
    max_leaves=8,
)
labels = st.from_regex(r"[a-z0-9]([a-z0-9-]{0,10}[a-z0-9])?", fullmatch=True)
folders = st.just("/pool") | texts.map(lambda each: "/" + each.replace("..", ""))
entries = st.fixed_dictionaries({"name": texts}, optional={"size": trees})
requested = st.fixed_dictionaries(
    {
        "user": st.just("admin"),
        "groups": st.lists(st.sampled_from(["web", "DB_1"]), max_size=2),
        "after": st.lists(labels, max_size=2),
        "ssh_keys": st.none() | st.lists(texts, max_size=2),
        "ready": st.sampled_from(
            [
                {"kind": "ssh", "port": None, "command": None, "timeout": None},
                {"kind": "port", "port": 80, "timeout": 2.5},
                {"kind": "command", "command": "true"},
            ]
        ),
    },
    optional={"memory": trees, "disks": st.none() | st.lists(entries, max_size=2)},
)
content_hashes = st.from_regex(r"[0-9a-f]{20}", fullmatch=True)
files = st.builds(
    ImageFiles.named,
    folders,
    content_hashes,
    format=texts,
    size=st.integers(0),
    bootable=st.booleans(),
)
addresses = st.sampled_from(["", "10.0.0.5"])
addresses6 = st.sampled_from(["", "fd00::5"])
documents = st.sampled_from(["", "<domain/>", "<domain>\n  <name>é &amp; x</name>\n</domain>\n"])
several = st.lists(texts, max_size=3).map(tuple)
causes = st.sampled_from(["spec", "drift", "unfinished", "upgrade"])


def _volume(owner: tuple[str, str], name: str, state: VolumeState, keep: bool) -> VolumeRecord:
    name = f"{owner[0]}-{owner[1]}-{name}"
    return VolumeRecord(name, f"/pool/{name}", "disk", state, keep, "vdb")


def _guest(owner: tuple[str, str], some: list[VolumeRecord], **rest: Any) -> GuestRecord:
    return GuestRecord(environment=owner[0], guest=owner[1], volumes=tuple(some), **rest)


states = st.sampled_from(("wanted", "made", "deleting"))
owners = st.tuples(labels, labels)
guests = owners.flatmap(
    lambda owner: st.builds(
        _guest,
        st.just(owner),
        st.lists(st.builds(_volume, st.just(owner), labels, states, st.booleans()), max_size=3),
        type=st.sampled_from(sorted(DRIVERS)),
        spec=texts,
        requested=requested,
        image_identity=texts,
        image=st.none() | files,
        interfaces=st.lists(
            st.builds(InterfaceRecord, texts, texts, addresses, addresses6), max_size=3
        ).map(tuple),
        host_key=st.sampled_from(["", "ssh-ed25519 AAAAC3/+="]),
        instance=texts,
        fqdn=texts,
        rendered=documents,
        rewritten=several,
        staged=st.dictionaries(texts, causes, max_size=3),
        staged_in=texts,
        detaching=several,
        booted=st.booleans(),
        finished=st.booleans(),
        made_from=texts,
    )
)
reservations = st.builds(Reservation, texts, texts, texts, texts, st.booleans())
networks = st.builds(
    NetworkRecord,
    labels,
    labels,
    texts,
    requested,
    st.just("10.0.0.0/24"),
    st.lists(reservations, max_size=3).map(tuple),
    documents,
    several,
    texts,
)
image_names = labels | st.sampled_from(["ubuntu-22.04", "web-1.2"])
images = st.builds(
    StoredImage, image_names, st.lists(texts, max_size=3).map(tuple), files, st.booleans()
)


def _kept(owner: tuple[str, str], name: str, made_from: str) -> KeptDisk:
    name = f"{owner[0]}-{owner[1]}-{name}"
    return KeptDisk(owner[0], owner[1], name, f"/pool/{name}", made_from=made_from)


pools = st.builds(
    lambda images, kept: PoolRecord(
        {each.files.content: each for each in images}, {each.name: each for each in kept}
    ),
    st.lists(images, max_size=3),
    st.lists(st.builds(_kept, owners, labels, texts), max_size=3),
)


#: XML that nothing can be compared with.
BROKEN = ("<domain>", "domain", "<a/><b/>", "<!DOCTYPE a [<!ENTITY b 'c'>]><a>&b;</a>")


def document(element: str) -> etree._Element:
    """A libvirt document that has ``element``, after libvirt read and wrote it."""
    stranger = '<x:app xmlns:x="urn:x">{"a": 1}</x:app>'
    text = f"<domain><name>a</name><metadata>{stranger}{element}</metadata></domain>"
    return etree.fromstring(etree.tostring(etree.fromstring(text)))


def carrying(tag: str, text: str) -> etree._Element:
    element = etree.Element(f"{{{record_text.NAMESPACE}}}{tag}")
    element.text = text
    return document(etree.tostring(element, encoding="unicode"))


@given(guests)
def test_guest_round_trip(original: GuestRecord) -> None:
    assert record_text.read_guest(document(record_text.guest_element(original))) == original


@given(networks)
def test_network_round_trip(original: NetworkRecord) -> None:
    assert record_text.read_network(document(record_text.network_element(original))) == original


@given(pools)
def test_pool_round_trip(original: PoolRecord) -> None:
    text = record_text.pool_text(original)
    assert record_text.read_pool(text) == original
    for cut in (1, len(text) // 2, len(text) - 1):
        assert record_text.read_pool(text[:cut]) is None, "half written"


EXAMPLE = GuestRecord(
    environment="lab",
    guest="web",
    type="qemu",
    spec="/specs/lab.yaml",
    requested={"memory": 1, "user": "admin", "groups": [], "after": [], "ready": {"kind": "ssh"}},
    image_identity="i",
    image=ImageFiles("c", "/pool/virtkit-c.root", "raw", 5),
    volumes=(
        VolumeRecord("lab-web-root", "/pool/lab-web-root", "root"),
        VolumeRecord("lab-web-data", "/pool/lab-web-data", "disk", keep=True),
    ),
)


def test_attributes_tell_people_what_it_is() -> None:
    root = etree.fromstring(record_text.guest_element(EXAMPLE))
    assert root.tag == f"{{{record_text.NAMESPACE}}}guest"
    assert dict(root.attrib) == {"environment": "lab", "name": "web", "finished": "no"}
    bare = etree.fromstring(record_text.guest_element(EXAMPLE, without_namespace=True))
    assert (bare.tag, bare.nsmap) == ("guest", {})


def test_states() -> None:
    assert [each.state for each in EXAMPLE.with_state("made").volumes] == ["made", "made"]
    assert EXAMPLE.domain == "lab-web"


def test_what_a_newer_virtkit_wrote_is_passed_over() -> None:
    data = json.loads(etree.fromstring(record_text.guest_element(EXAMPLE)).text or "")
    data |= {"new": {"a": 1}, "image": {**data["image"], "new": 1}}
    data["volumes"] = [{**each, "new": 1} for each in data["volumes"]]
    assert record_text.read_guest(carrying("guest", json.dumps(data))) == EXAMPLE


def test_the_names_of_an_older_version_are_read_and_not_written_again() -> None:
    """A run of 0.1.0 that was killed while it took a disk away."""
    root, data = EXAMPLE.volumes
    volumes = (root, replace(data, state="deleting"))
    interfaces = (InterfaceRecord("lab-lan", "52:54:00:11:22:33", "10.0.0.2", ""),)
    killed = replace(
        EXAMPLE, volumes=volumes, detaching=("devices/disk[vdb]",), interfaces=interfaces
    )
    text = etree.fromstring(record_text.guest_element(killed)).text or ""
    new = json.loads(text)
    former = {"requested": "asked", "detaching": "leaving", "interfaces": "links"}
    old = {former.get(key, key): value for key, value in new.items()}
    old["volumes"] = [
        {**e, "state": e["state"].replace("deleting", "doomed")} for e in new["volumes"]
    ]
    assert "doomed" in json.dumps(old)
    found = record_text.read_guest(carrying("guest", json.dumps(old)))
    assert found == killed
    assert json.loads(etree.fromstring(record_text.guest_element(found)).text or "") == new
    listed = {key: old[key] for key in old.keys() - {"leaving"}}
    pool = json.dumps({"images": {}, "kept": {}, "guests": {"lab-web": listed}})
    read = record_text.read_pool(pool)
    assert read is not None
    assert (read.guests, read.unread) == ({"lab-web": killed.for_pool_record()}, {})
    again = record_text.pool_text(read)
    assert record_text.read_pool(again) == read
    assert not re.search("asked|leaving|doomed|links", text + again)


def test_a_network_of_an_older_version_is_read() -> None:
    network = NetworkRecord("lab", "lan", "/lab.yaml", {"cidr": None}, "10.0.0.0/24")
    text = etree.fromstring(record_text.network_element(network)).text or ""
    old = text.replace('"requested"', '"asked"')
    assert old != text
    assert record_text.read_network(carrying("network", old)) == network


def test_where_it_was_made_from_is_said_only_where_that_is_another_machine() -> None:
    """So that the records of this machine's guests stay as they are."""
    far = replace(EXAMPLE, made_from="laptop")
    disk = KeptDisk("lab", "web", "lab-web-own", "/pool/lab-web-own")
    for guest, kept, written in (
        (EXAMPLE, disk, False),
        (far, replace(disk, made_from="laptop"), True),
    ):
        pool = PoolRecord({}, {kept.name: kept}, {guest.domain: guest})
        texts = [record_text.guest_element(guest), record_text.pool_text(pool)]
        assert ["made_from" in each for each in texts] == [written, written]
        read = record_text.read_pool(texts[1])
        assert read is not None
        assert (read.guests, read.kept) == (
            {guest.domain: guest.for_pool_record()},
            {kept.name: kept},
        )


@pytest.mark.parametrize("field", ["environment", "requested", "image", "volumes", "type"])
def test_a_record_that_lacks_a_field_is_none(field: str) -> None:
    data = json.loads(etree.fromstring(record_text.guest_element(EXAMPLE)).text or "")
    del data[field]
    assert record_text.read_guest(carrying("guest", json.dumps(data))) is None


@pytest.mark.parametrize("text", ["", "{", "[]", "1", "null", '"guest"', "{}", "not ours"])
def test_text_that_is_no_record(text: str) -> None:
    assert record_text.read_guest(carrying("guest", text)) is None
    assert record_text.read_network(carrying("network", text)) is None
    assert record_text.read_pool(text) is None


@given(trees, st.sampled_from([*GuestRecord.__dataclass_fields__]), trees)
def test_nothing_in_metadata_ends_virtkit(any_json: Any, field: str, value: Any) -> None:
    data = json.loads(etree.fromstring(record_text.guest_element(EXAMPLE)).text or "")
    for content in (any_json, {**data, field: value}, {"images": any_json, "kept": value}):
        text = json.dumps(content)
        for read in (record_text.read_guest, record_text.read_network):
            found = read(carrying(read.__name__.removeprefix("read_"), text))
            assert found is None or found.environment == content["environment"]
        pool = record_text.read_pool(text)
        assert pool is None or isinstance(pool, PoolRecord)


def changed(path: str, value: Any) -> GuestRecord | None:
    """What is read where the example's record says something else at ``path``."""
    data = json.loads(etree.fromstring(record_text.guest_element(EXAMPLE)).text or "")
    *above, last = (int(each) if each.isdigit() else each for each in path.split("."))
    place = data
    for each in above:
        place = place[each]
    place[last] = value
    return record_text.read_guest(carrying("guest", json.dumps(data)))


@pytest.mark.parametrize(
    ("path", "value"),
    [
        *((f"requested.{key}", None) for key in ("user", "groups", "after", "ready")),
        *((f"requested.{key}", 1) for key in ("user", "groups", "after", "ready", "ssh_keys")),
        *(
            ("requested.user", each)
            for each in ("", "-oProxyCommand=x", "a b", "a\n  ProxyCommand x")
        ),
        *(("requested.groups", [each]) for each in ("a]\n[all:vars", "-x", 1, None)),
        *(
            ("requested.ready", each)
            for each in ({}, {"kind": "port"}, {"kind": "x"}, {"kind": []})
        ),
        ("requested.ready", {"kind": "port", "port": "80"}),
        ("requested.ready", {"kind": "command"}),
        ("requested.ready", {"kind": "ssh", "timeout": "long"}),
        *(
            (f"requested.{key}", each)
            for key in ("disks", "networks", "files", "folders")
            for each in (5, "data", {}, ["data"], [None], [{}], [{"name": None}], [{"name": []}])
        ),
        *(("requested.cdroms", each) for each in (5, "a.iso", {}, [5], [None])),
        ("requested.[/x]", 1),
        *(("environment", each) for each in ("..", "", "lab\n", "Lab", "a/b", 1)),
        *(("guest", each) for each in ("..", "web-", "-rf", "")),
        *(("type", each) for each in ("vax", "", None, [])),
        *(
            ("interfaces", [{"source": "x", "mac": "x", "address": each, "address6": ""}])
            for each in ("-oProxyCommand=x", 1, "x.test", ["10.0.0.1"], "fd00::5")
        ),
        ("interfaces", [{"source": "x", "mac": "x", "address6": "fe80::1%eth0\n  ProxyCommand x"}]),
        ("host_key", "ssh-ed25519 AAAA\nother ssh-ed25519 BBBB"),
        ("host_key", "@cert-authority * ssh-ed25519 AAAA"),
        *(("volumes.0.name", each) for each in ("victim", "lab-web-../x", "lab-webroot", 1)),
        *(
            ("volumes.0.key", each)
            for each in ("/etc/shadow", "lab-web-root", "/a/../lab-web-root")
        ),
        *(("volumes.0.state", each) for each in ("gone", None)),
        ("volumes.0.keep", "yes"),
        *(("image.root", each) for each in ("/etc/shadow", "virtkit-c.root", "/../virtkit-c.root")),
        ("image.kernel", "/etc/shadow"),
        ("image.size", "5"),
        ("finished", "yes"),
        ("finished", 1),
        ("spec", None),
        ("fqdn", []),
        *(("rendered", each) for each in BROKEN),
    ],
)
def test_what_virtkit_never_wrote_is_a_strangers(path: str, value: Any) -> None:
    assert changed("fqdn", "web.lab.test") is not None, "the example itself is sound"
    assert changed(path, value) is None


@pytest.mark.parametrize("rendered", BROKEN)
def test_nor_is_a_network_virtkits_with_broken_xml(rendered: str) -> None:
    network = NetworkRecord("lab", "lan", "/lab.yaml", {}, "10.0.0.0/24", rendered="<network/>")
    for text, expected in (("<network/>", network), (rendered, None)):
        element = record_text.network_element(replace(network, rendered=text))
        assert record_text.read_network(document(element)) == expected


@pytest.mark.parametrize("depth", [500, 100_000])
def test_deep_json(depth: int) -> None:
    text = "[" * depth + "]" * depth
    assert record_text.read_guest(carrying("guest", text)) is None
    assert record_text.read_pool(text) is None


@pytest.mark.parametrize(
    ("name", "key"),
    [
        ("victim", "/pool/victim"),
        ("lab-web-data", "/pool/victim"),
        ("lab-web-data", "lab-web-data"),
        ("../lab-web-data", "/pool/../lab-web-data"),
        ("lab-db-data", "/pool/lab-db-data"),
    ],
)
def test_a_pools_record_lists_no_stranger(name: str, key: str) -> None:
    """Nobody acts on what can't be ours; it is no reason to lose sight of what is."""
    own = KeptDisk("lab", "web", "lab-web-own", "/pool/lab-web-own")
    image = StoredImage("a", ("one",), ImageFiles("c", key, "raw", 1), made=True)
    kept = {name: KeptDisk("lab", "web", name, key), own.name: own, "another": own}
    text = record_text.pool_text(PoolRecord({"c": image}, kept))
    found = record_text.read_pool(text)
    assert found is not None
    assert (found.images, found.kept) == ({}, {own.name: own})
    assert json.loads(record_text.pool_text(found)) == json.loads(text), "it is written as it was"


@pytest.mark.parametrize("name", [*CATALOGUE, "web-1.2"])
def test_an_image_that_needs_no_entry_in_a_spec_is_known_again(name: str) -> None:
    """Else the next guest that starts from it would have its volume made anew, below others."""
    image = StoredImage(name, ("one",), ImageFiles("c", "/pool/virtkit-c.root", "raw", 1))
    found = record_text.read_pool(record_text.pool_text(PoolRecord({"c": image})))
    assert found is not None
    assert found.images == {"c": image}


@pytest.mark.parametrize("name", ["", "../a", "a/b", "-a", "a.", "A", 1])
def test_an_image_of_another_name_is_no_image(name: Any) -> None:
    image = StoredImage(name, ("one",), ImageFiles("c", "/pool/virtkit-c.root", "raw", 1))
    found = record_text.read_pool(record_text.pool_text(PoolRecord({"c": image})))
    assert found is not None
    assert found.images == {}


def test_what_is_nested_too_deep_to_be_written_is_left_out() -> None:
    for depth in range(500, 1000, 20):
        deep = "[" * depth + "]" * depth
        found = record_text.read_pool(f'{{"images": {{"c": {deep}}}, "kept": {{}}}}')
        assert found is None or record_text.pool_text(found)


def test_elements_of_others_are_none() -> None:
    other = record_text.guest_element(EXAMPLE).replace("urn:virtkit:1", "urn:virtkit:2")
    assert record_text.read_guest(document(other)) is None
    assert record_text.read_network(document(record_text.guest_element(EXAMPLE))) is None
    assert record_text.read_guest(etree.fromstring("<domain/>")) is None


def test_only_whole_images_count() -> None:
    whole = StoredImage("a", ("one", "two"), ImageFiles("a", "/a", "raw", 1), made=True)
    half = StoredImage("b", ("three",), ImageFiles("b", "/b", "raw", 1))
    found = PoolRecord({"a": whole, "b": half}).by_identity()
    assert found == {"one": whole.files, "two": whole.files}


def test_of_two_images_of_an_entry_one_is_taken_in_any_order() -> None:
    """They are listed by content, and two runs at once may have made one each."""
    both = [StoredImage(c, ("one",), ImageFiles(c, f"/{c}", "raw", 1), made=True) for c in "ab"]
    orders = (both, both[::-1])
    found = [PoolRecord({e.files.content: e for e in each}).by_identity() for each in orders]
    assert found[0] == found[1]


def test_pool_lists_guests_and_passes_over_those_of_others() -> None:
    """What only the running domain needs is left out; one that can't be acted on hides no other."""
    guest = samples.guest_of("name: lab\nguests: {web: {disks: [{name: data, size: 1GiB}]}}\n")
    whole = replace(
        record.of_guest(guest, "/lab.yaml", "<domain/>").with_state("made"),
        staged={"cpus": "spec"},
        finished=True,
    )
    text = record_text.pool_text(PoolRecord({}, {}, {whole.domain: whole}))
    found = record_text.read_pool(text)
    assert found is not None
    assert found.guests == {"lab-web": whole.for_pool_record()}
    assert whole.for_pool_record() == replace(whole, rendered="", staged={})
    data = json.loads(text)
    other = data["guests"]["lab-web"]
    data["guests"] |= {"lab-no": other, "lab-odd": other | {"guest": "odd", "type": "newer"}}
    again = record_text.read_pool(json.dumps(data))
    assert again is not None
    assert again.guests == found.guests
    assert json.loads(record_text.pool_text(again)) == data, "a newer version's stays as it is"
    del data["guests"]
    old = record_text.read_pool(json.dumps(data))
    assert old is not None
    assert old.guests == {}, "0.1.0 lists none"


def test_a_thousand_guests_fit_into_a_pools_record() -> None:
    disks = "[{name: a, size: 1GiB}, {name: b, size: 1GiB}]"
    guest = samples.guest_of(f"name: lab\nguests: {{web: {{disks: {disks}}}}}\n")
    template = record.of_guest(guest, "/lab.yaml", "<domain/>" * 500)
    many = {}
    for number in range(1000):
        name = f"web{number}"
        volumes = tuple(
            replace(
                each,
                name=each.name.replace("-web-", f"-{name}-"),
                key=each.key.replace("-web-", f"-{name}-"),
            )
            for each in template.volumes
        )
        many[f"lab-{name}"] = replace(template, guest=name, volumes=volumes)
    text = record_text.pool_text(PoolRecord({}, {}, many))
    assert len(text) < 4 * 1024**2, "one answer of libvirt's; the limit of a record is more"
    found = record_text.read_pool(text)
    assert found is not None
    assert len(found.guests) == 1000


def test_a_text_that_cannot_be_written_is_no_record() -> None:
    guest = samples.guest_of("name: lab\nguests: {web: {}}\n")
    element = record_text.guest_element(record.of_guest(guest, "/lab.yaml"))
    root = etree.fromstring(f"<domain><metadata>{element}</metadata></domain>")
    assert record_text.read_guest(root) is not None
    odd = element.replace("/lab.yaml", "\\ud800")
    root = etree.fromstring(f"<domain><metadata>{odd}</metadata></domain>")
    assert record_text.read_guest(root) is None


def test_volumes_of_what_a_newer_version_listed_are_known() -> None:
    content = "f" * 64
    newer = {"guests": {"lab-new": {}}, "images": {content: {}}, "kept": {"lab-old-data": {}}}
    pool = record.PoolRecord(unread=newer)
    volumes = ("lab-new-root", f"virtkit-{content[:20]}.root", "lab-old-data")
    assert all(map(pool.is_unread, volumes))
    others = ("lab-newer-root", "lab-old-data-2", "virtkit-eeeeeeeeeeeeeeeeeeee.root")
    assert not any(map(pool.is_unread, others))
    assert not record.PoolRecord().is_unread("lab-new-root")
