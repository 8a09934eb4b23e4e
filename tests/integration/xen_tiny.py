"""A Xen guest of a page: it starts in no time, and powers off when it is asked to."""

from __future__ import annotations

import struct

#: tiny-xen.S, which says how it is made and what it does.
_CODE = bytes.fromhex(
    "bc002000008b464089042534110000488b5e28488b763848c1e60cbf00200000e8300000004889debf00300000e8"
    "23000000b002e82d00000084c074f5b00be82200000031d2be30110000bf02000000e9b80000004883ce07ba0200"
    "0000b80e0000000f05c3880425381100008b1c250428000031f68a863811000089da81e2ff030000888200200000"
    "ffc3ffc681fe2100000072e0891c2504280000be34110000bf04000000b8200000000f050f3148c1e2204809d048"
    "2b0425283000004803042530300000480500c2eb0b4889042528110000be18110000bf03000000e8290000008b1c"
    "25082800008b14250c28000039da74b883c30c81e3ff0300008a830024000089142508280000c3b81d0000000f05"
    "c30f1f00000000000000000000000000000000000000000000000000000000000000000000000000000000000000"
    "000011000000636f6e74726f6c2f73687574646f776e00"
)


def tiny_kernel() -> bytes:
    """It as a file that Xen loads: ELF, with the notes that tell it for Xen's."""
    notes = b"".join(
        struct.pack("<3I4s", 4, len(value), kind, b"Xen\0")
        + value.ljust(-len(value) % 4 + len(value), b"\0")
        for kind, value in (
            (6, b"tiny\0"),  # the guest's system
            (5, b"xen-3.0\0"),
            (8, b"generic\0"),  # its loader
            (1, struct.pack("<Q", 0x1000)),  # where it begins
            (3, bytes(8)),  # virtual addresses are physical ones
            (4, bytes(8)),
        )
    )
    head = b"\x7fELF\2\1\1".ljust(16, b"\0")
    head += struct.pack("<2HI3QI6H", 2, 62, 1, 0x1000, 64, 0, 0, 64, 56, 2, 0, 0, 0)
    head += struct.pack("<2I6Q", 1, 7, *[0x1000] * 3, len(_CODE), 0x3000, 0x1000)
    head += struct.pack("<2I6Q", 4, 4, 64 + 2 * 56, 0, 0, len(notes), len(notes), 4)
    return (head + notes).ljust(0x1000, b"\0") + _CODE
