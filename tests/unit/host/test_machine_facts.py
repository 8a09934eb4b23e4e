"""What libvirt's domain capabilities say of a host's virtual machines."""

from __future__ import annotations

import pytest

from virtkit.facts import MachineFacts
from virtkit.host.machine_facts import page_sizes, parse
from virtkit.xml import tree

#: As libvirt 9.0 tells it of QEMU 7.2, cut down to what is read.
WHOLE = """<domainCapabilities><machine>pc-q35-7.2</machine>
<os supported='yes'><enum name='firmware'><value>efi</value></enum>
 <loader supported='yes'><value>/usr/share/OVMF/OVMF_CODE_4M.ms.fd</value>
  <enum name='type'><value>rom</value><value>pflash</value></enum>
  <enum name='secure'><value>yes</value><value>no</value></enum></loader></os>
<cpu><mode name='host-model' supported='yes'><model fallback='forbid'>EPYC-Milan</model></mode>
 <mode name='custom' supported='yes'><model usable='yes' vendor='Intel'>Nehalem</model>
  <model usable='no' vendor='Intel'>Haswell</model>
  <model usable='unknown' vendor='unknown'>other</model></mode></cpu>
<devices><tpm supported='yes'><enum name='model'><value>tpm-crb</value></enum>
 <enum name='backendModel'><value>passthrough</value><value>emulator</value></enum>
 <enum name='backendVersion'><value>1.2</value><value>2.0</value></enum></tpm></devices>
<features><hyperv supported='yes'><enum name='features'><value>relaxed</value>
 <value>vapic</value></enum></hyperv></features></domainCapabilities>"""


def found(xml: str) -> MachineFacts:
    return parse(tree.parse(xml, "it"))


def test_all_is_there() -> None:
    assert found(WHOLE) == MachineFacts(
        cpu_models={"Nehalem": True, "Haswell": False, "other": True},
        tpm=True,
        firmware=frozenset({"bios", "uefi", "secure"}),
        hyperv=frozenset({"relaxed", "vapic"}),
    )


@pytest.mark.parametrize(
    ("old", "new", "field", "expected"),
    [
        ("<value>emulator</value>", "", "tpm", False),
        ("<value>2.0</value>", "", "tpm", False),
        ("<value>1.2</value><value>2.0</value>", "", "tpm", True),  # an older libvirt's
        ("<value>yes</value><value>no</value>", "", "firmware", {"bios", "uefi"}),
        ("<value>efi</value>", "", "firmware", {"bios"}),
        ("hyperv", "other", "hyperv", None),
    ],
)
def test_something_is_missing(old: str, new: str, field: str, expected: object) -> None:
    assert old in WHOLE
    assert getattr(found(WHOLE.replace(old, new)), field) == expected


def test_the_pages_of_each_node() -> None:
    capabilities = """<capabilities><host><topology><cells num='2'>
    <cell id='0'><memory unit='KiB'>4</memory><pages unit='KiB' size='4'>100</pages>
     <pages unit='KiB' size='2048'>0</pages></cell>
    <cell id='3'><pages unit='KiB' size='4'>100</pages></cell>
    </cells></topology></host></capabilities>"""
    found_sizes = page_sizes(tree.parse(capabilities, "it"))
    assert found_sizes == {0: (4096, 2 * 1024**2), 3: (4096,)}
    assert page_sizes(tree.parse("<capabilities><host/></capabilities>", "it")) == {}
