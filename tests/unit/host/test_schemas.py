"""What libvirt's schema does not allow is named: the device, the attribute, and what was meant."""

from __future__ import annotations

import pytest
import samples

from virtkit.errors import RequestError
from virtkit.host import schemas
from virtkit.xml import render


def refused(*devices: str) -> RequestError:
    guest = samples.guest_of(f"name: lab\nguests: {{web: {{type: qemu, devices: {[*devices]}}}}}\n")
    with pytest.raises(RequestError) as caught:
        schemas.check("domain", render.domain_xml(guest), "guest web", "here")
    assert "interleave" not in str(caught.value.as_dict())
    assert "virtkit render" not in caught.value.cure, "it would fail with the same error"
    return caught.value


def test_an_unknown_device_and_what_was_meant() -> None:
    error = refused("<wachdog/>")
    assert "<wachdog/>: there is no <wachdog>" in error.what
    assert "did you mean 'watchdog'?" in error.cure
    assert "use one of: audio, channel, console" in refused("<qqq/>").cure


@pytest.mark.parametrize(
    ("device", "expected"),
    [
        ('<watchdog model="i63"/>', '<watchdog model="i63"/>'),
        ("<watchdog/>", "<watchdog/>"),
        (
            '<sound model="ac97"><codecs type="x"/></sound>',
            'not allow <codecs type="x"/>',
        ),
        ('<controller type="usb" indx="3"/>', "indx='3' in <controller"),
        ("<disk/>", "<disk/>"),
        ('<input type="tablet">text</input>', "text</input>"),
    ],
)
def test_what_a_known_device_may_not_have(device: str, expected: str) -> None:
    error = refused('<watchdog model="i6300esb"/>', device)
    assert expected in error.what
    assert "i6300esb" not in error.what, "another device is right"
    assert "https://libvirt.org/formatdomain.html" in error.cure


def test_every_wrong_device_is_named() -> None:
    error = refused("<wachdog/>", '<hub type="usb"/>', "<soundd/>")
    assert "<wachdog>" in error.what
    assert "<soundd>" in error.what
    assert "hub" not in error.what


def test_a_fault_outside_of_the_devices() -> None:
    guest = samples.guest_of("name: lab\nguests: {web: {type: qemu}}\n")
    xml = render.domain_xml(guest).replace(
        "<on_crash>destroy</on_crash>", "<on_crsh>destroy</on_crsh>"
    )
    assert "on_crsh" in xml
    with pytest.raises(RequestError, match="does not allow <on_crsh>destroy</on_crsh>"):
        schemas.check("domain", xml, "guest web")
    xml = '<network><name>a</name><forward mode="natt"/></network>'
    with pytest.raises(RequestError, match="mode='natt' in <forward") as caught:
        schemas.check("network", xml, "network a")
    assert "formatnetwork" in caught.value.cure


def test_the_names_are_the_schemas() -> None:
    assert {"watchdog", "disk", "interface", "shmem"} <= schemas._names("domain", "devices")
    assert not {"domain", "target", "source"} & schemas._names("domain", "devices")
