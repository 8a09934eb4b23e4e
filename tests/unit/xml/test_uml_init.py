"""What the first process of a User-Mode Linux guest tells the kernel: interfaces, and to end."""

from __future__ import annotations

import runpy
import socket
from pathlib import Path

import pytest

from virtkit.xml import render

INIT = runpy.run_path(str(render.templates_folder() / "uml_init.py"))
A, B, C = "52:54:00:00:00:0a", "52:54:00:00:00:0b", "06:00:00:00:00:0c"
UDEVS, OTHER = "9e:aa:bb:cc:dd:01", "2a:aa:bb:cc:dd:02"


@pytest.mark.parametrize(
    ("current", "macs", "right"),
    [
        ([A, B], [A, B], [A, B]),
        ([B, A], [A, B], [B, A]),  # libvirt has them in another order than the spec
        ([A, UDEVS], [A, B], [A, B]),
        ([UDEVS, OTHER], [A, C], [A, C]),
        ([UDEVS, C], [A, C], [A, C]),
        (["52:54:00:77:77:77", UDEVS], [A], ["52:54:00:77:77:77", A]),  # one of `devices`
        ([A, UDEVS], [A], [A, UDEVS]),
        ([UDEVS], [], [UDEVS]),
        ([], [A], []),
    ],
)
def test_each_interface_has_libvirts_address(
    current: list[str], macs: list[str], right: list[str]
) -> None:
    interfaces = {f"eth{number}": mac for number, mac in enumerate(current)}
    assert list(INIT["addresses"](interfaces, macs).values()) == right


def test_it_presses_the_key_that_means_off(tmp_path: Path) -> None:
    """In the words of arch/um/drivers/mconsole.h; before the kernel listens, nothing happens."""
    INIT["turn_off"](str(tmp_path / "nobody"))
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as kernel:
        kernel.bind(str(tmp_path / "mconsole"))
        INIT["turn_off"](kernel.getsockname())
        words = kernel.recv(4096)
    assert len(words) == 12 + 512
    assert words[:12] == b"\xbe\xba\xfe\xca\x02\0\0\0\x03\0\0\0"
    assert words[12:].rstrip(b"\0") == b"cad"
