"""XML as a tree: what is no XML, or more than that, is refused."""

from __future__ import annotations

import pytest

from virtkit.errors import RequestError
from virtkit.xml import tree


@pytest.mark.parametrize(
    "xml",
    [
        '<!DOCTYPE domain [<!ENTITY x SYSTEM "file:///etc/passwd">]><domain><name>&x;</name></domain>',
        '<!DOCTYPE domain [<!ENTITY x "y">]><domain/>',
        '<!DOCTYPE domain SYSTEM "http://127.0.0.1:1/x"><domain/>',
        "<!DOCTYPE domain><domain/>",
    ],
)
def test_no_doctype(xml: str) -> None:
    with pytest.raises(RequestError) as caught:
        tree.parse(xml, "the XML", "here")
    assert caught.value.where == "here"


@pytest.mark.parametrize("xml", ["", "<a>", "<a/><b/>", "text", "<a b=c/>", "<a>\x01</a>", "\0"])
def test_broken_xml(xml: str) -> None:
    with pytest.raises(RequestError, match="not well-formed"):
        tree.parse(xml, "the XML")


RECORD = '<vk:guest xmlns:vk="urn:virtkit:1" name="web">{}</vk:guest>'
BARE = """<domain>
  <name>lab-web</name>
  <uuid>0e49b1cd-1ebd-544e-9132-7b4cd8ad3c0c</uuid>
  <title>x</title>
</domain>
"""


def test_a_record_comes_and_goes() -> None:
    xml = tree.with_record(BARE, RECORD)
    assert [each.tag for each in tree.parse(xml, "it")] == ["name", "uuid", "metadata", "title"]
    assert tree.with_record(xml, RECORD) == xml, "there is one at most"
    assert tree.without_record(xml, "urn:virtkit:1") == BARE
    assert tree.without_record(BARE, "urn:virtkit:1") == BARE


def test_metadata_of_others_stays() -> None:
    others = "<metadata><x:y xmlns:x='urn:x'>z</x:y></metadata>"
    xml = tree.with_record(f"<domain><name>a</name>{others}</domain>", RECORD)
    left = tree.parse(tree.without_record(xml, "urn:virtkit:1"), "it")
    assert [each.tag for each in left.iterfind("metadata/*")] == ["{urn:x}y"]
    assert left.findtext("metadata/{urn:x}y") == "z"
