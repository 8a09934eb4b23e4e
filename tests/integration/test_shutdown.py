"""How guests stop that don't hear the first question."""

from __future__ import annotations

import time
from pathlib import Path

from integration.lab import laboratory, printed, tiny_disk, until

#: Before the tiny machine: jumps over its code, waits some 15 s by the BIOS's clock, forgets the
#: power button, and goes on. Until then its power button is not heard, as a system's that boots.
#: Long enough for a busy machine's first question to come too early.
#:      jmp 0x100
#: 100: ax = ds = 0; sti; cx = [0x46c]
#:   1: ax = [0x46c] - cx; cmp ax, 273; jb 1b
#:      out 0x600, 0x100; cli; xor ax, ax; jmp 3
_JUMP = bytes.fromhex("e9fd00")
_DEAF = bytes.fromhex("31c08ed8fb8b0e6c04a16c0429c83d110172f6ba0006b80001effa31c0e9e3fe")
SPEC = """
name: stops
images: {tiny: {path: tiny.raw}}
guests:
  a: {type: qemu, image: tiny, memory: 32MiB, networks: [], ready: none}
"""


def deaf_at_first() -> bytes:
    disk = bytearray(tiny_disk())
    assert not any(disk[0x100 : 0x100 + len(_DEAF)])
    disk[: len(_JUMP)] = _JUMP
    disk[0x100 : 0x100 + len(_DEAF)] = _DEAF
    return bytes(disk)


def test_a_guest_that_still_boots_is_asked_again(tmp_path: Path) -> None:
    (tmp_path / "tiny.raw").write_bytes(deaf_at_first())
    with laboratory(tmp_path, "stops", SPEC) as lab:
        lab.virtkit("up")
        assert printed("stops-a") == [], "it does not boot that fast"
        began = time.monotonic()
        ran = lab.virtkit("stop")
        took = time.monotonic() - began
        assert "forced off" not in ran.err, str(ran)
        assert until(lambda: "tiny: off" in printed("stops-a"), 5), "it heard"
        assert took < 45
