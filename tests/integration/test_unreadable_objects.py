"""What strangers have in libvirt and its folders, and what can't be read of it: passed over."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import libvirt
import pytest
from integration.lab import POOL, Lab, laboratory, tiny_disk, virsh

SPEC = """
name: odd
images: {tiny: {path: tiny.raw}}
networks: {front: {mode: isolated, cidr: 10.94.43.0/24}}
defaults: {image: tiny, type: qemu, memory: 32MiB, ready: none, networks: [front]}
guests: {a: {}}
"""
#: Names of files that are no text, or odd ones.
NAMES = (
    b"Urlaub-\xfcber-\xff.iso",
    b"two\nlines.img",
    "Größe ☃.qcow2".encode(),
    b"-rf",
    b"odd-a-\xff",
    b"virtkit-record-000001.json\xff",
    b" ",
)
DOMAIN = """
<domain type="qemu"><name>{name}</name><memory unit="MiB">32</memory>
<title>&#9731; {name}</title><description>odd-a &lt;b&gt; ]]&gt; \u202e</description>
<metadata>{metadata}</metadata>
<os><type>hvm</type></os></domain>
"""
RECORDS = (
    "<vk:guest xmlns:vk='urn:virtkit:1'>{</vk:guest>",
    "<vk:guest xmlns:vk='urn:virtkit:1'>[1, 2]</vk:guest>",
    '<vk:guest xmlns:vk=\'urn:virtkit:1\'>{"spec": "\\ud800"}</vk:guest>',
    "<vk:guest xmlns:vk='urn:virtkit:1'>" + "[" * 100_000 + "</vk:guest>",
    "<x:y xmlns:x='urn:x'>" + "<a>" * 200 + "</a>" * 200 + "</x:y>",
    "<x:y xmlns:x='urn:x'><!-- - --><?pi odd?></x:y>",
)


@pytest.fixture
def lab(tmp_path: Path) -> Iterator[Lab]:
    (tmp_path / "tiny.raw").write_bytes(tiny_disk())
    with laboratory(tmp_path, "odd", SPEC) as lab:
        yield lab


@pytest.fixture
def files(lab: Lab) -> Iterator[set[bytes]]:
    """Files of strangers' in the pool."""
    lab.virtkit("up")
    pool = os.fsencode(POOL)
    for name in NAMES:
        Path(os.fsdecode(pool + b"/" + name)).write_bytes(b"theirs")
    virsh("pool-refresh", "default")
    yield {*NAMES}
    for name in NAMES:
        Path(os.fsdecode(pool + b"/" + name)).unlink(missing_ok=True)
    virsh("pool-refresh", "default")


@pytest.fixture
def domains() -> Iterator[list[str]]:
    """Domains of strangers', one of which libvirt itself can't tell."""
    opened = libvirt.open("qemu:///system")
    made = [
        opened.defineXML(DOMAIN.format(name=name, metadata=record))
        for name, record in zip(
            ["Größe", "a b", "x&lt;y", "odd-", "schnee-☃", "--help"], RECORDS, strict=True
        )
        if name != "odd-"
    ]
    large = opened.defineXML(DOMAIN.format(name="large", metadata=""))
    for number in range(3):  # together more than one answer of libvirt's may have
        large.setMetadata(
            libvirt.VIR_DOMAIN_METADATA_ELEMENT,
            f"<a>{'x' * (2 * 1024**2)}</a>",
            "n",
            f"urn:large:{number}",
            libvirt.VIR_DOMAIN_AFFECT_CONFIG,
        )
    with pytest.raises(libvirt.libvirtError):
        large.XMLDesc(0)
    yield [each.name() for each in [*made, large]]
    for each in [*made, large]:
        each.undefine()


VERBS = (
    ("plan",),
    ("up",),
    ("status",),
    ("doctor",),
    ("doctor", "--orphans"),
    ("inventory",),
    ("render",),
)


def every_verb(lab: Lab) -> None:
    for verb, *words in VERBS:
        ran = lab.virtkit(verb, *words, code=None)
        assert "virtkit itself" not in ran.err + ran.out, str(ran)
        if verb != "doctor":
            assert ran.code == 0, str(ran)


def test_files_whose_names_are_no_text(lab: Lab, files: set[bytes]) -> None:
    every_verb(lab)
    lab.virtkit("down", "--volumes")
    lab.virtkit("up")
    assert files <= {os.fsencode(each.name) for each in POOL.iterdir()}


def test_domains_that_cannot_be_read(lab: Lab, domains: list[str]) -> None:
    lab.virtkit("up")
    every_verb(lab)
    lab.virtkit("down", "--volumes")
    assert {*domains} <= {each.name() for each in libvirt.open("qemu:///system").listAllDomains()}
