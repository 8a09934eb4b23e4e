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
