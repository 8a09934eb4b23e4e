"""XML as a tree: read, searched and written again.

Pure. Whoever has XML, of a user's or of libvirt's, reads it here. It must never resolve an
entity, open a file or take a document with a DOCTYPE.
"""

from __future__ import annotations

from collections.abc import Iterable

from lxml import etree

from virtkit.errors import RequestError


def parse(xml: str, what: str, where: str = "") -> etree._Element:
    """``xml`` as a tree.

    Raises:
        RequestError: it isn't well-formed, or carries a DOCTYPE.
    """
    parser = etree.XMLParser(resolve_entities=False, no_network=True, remove_blank_text=True)
    try:
        root = etree.fromstring(xml.encode(), parser)
    except etree.XMLSyntaxError as error:
        raise RequestError(
            f"{what} is not well-formed XML", why=str(error), cure="fix the XML", where=where
        ) from error
    if root.getroottree().docinfo.internalDTD is not None:
        raise RequestError(f"{what} carries a DOCTYPE", cure="remove it", where=where)
    return root


def parse_plain(xml: str, what: str, where: str = "") -> etree._Element:
    """A user's XML as a tree without comments and processing instructions.

    libvirt reads a text past one, we would read up to it.

    Raises:
        RequestError: as ``parse``.
    """
    root = parse(xml, what, where)
    etree.strip_tags(root, etree.Comment, etree.ProcessingInstruction)
    return root


def to_text(root: etree._Element) -> str:
    """A tree as text, in one line."""
    return etree.tostring(root, encoding="unicode")


def with_record(xml: str, record: str) -> str:
    """A document with our element in its ``<metadata>``; that of others stays. In lines."""
    root = parse(xml, "a document")
    metadata = root.find("metadata")
    if metadata is None:
        metadata = etree.Element("metadata")
        root.insert(2, metadata)  # after name and uuid
    new = etree.fromstring(record)
    for old in metadata.findall(new.tag):
        metadata.remove(old)
    metadata.append(new)
    return etree.tostring(root, encoding="unicode", pretty_print=True)


def without_record(xml: str, namespace: str) -> str:
    """A document without our elements in its ``<metadata>``; those of others stay. In lines."""
    root = parse(xml, "a document")
    metadata = root.find("metadata")
    if metadata is not None:
        for ours in metadata.findall(f"{{{namespace}}}*"):
            metadata.remove(ours)
        if not len(metadata):
            root.remove(metadata)
    return etree.tostring(root, encoding="unicode", pretty_print=True)


def outside_metadata(root: etree._Element) -> Iterable[etree._Element]:
    """The elements that libvirt acts on; what is in ``<metadata>`` it only keeps."""
    yield root
    for child in root.iterchildren(etree.Element):
        if child.tag != "metadata":
            yield from child.iter(etree.Element)


def attributes(element: etree._Element) -> Iterable[tuple[str, str]]:
    """Names without their namespace: libvirt does not look at it either."""
    return ((etree.QName(key).localname, str(value)) for key, value in element.attrib.items())


def local_name(element: etree._Element) -> str:
    """An element's name without its namespace."""
    return etree.QName(element).localname
