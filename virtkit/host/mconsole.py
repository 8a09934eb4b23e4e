"""Asks a User-Mode Linux kernel, inside its container: a program of its own (``REQUEST SECONDS``).

Its code is what gets into the container, so it imports nothing of virtkit's.

Source: https://docs.kernel.org/virt/uml/user_mode_linux_howto_v2.html, arch/um/drivers/mconsole.h.
"""

import socket
import struct
import sys

#: Where the template has the kernel put it: uml_dir and umid.
SOCKET = "/tmp/guest/mconsole"  # noqa: S108 - the container's own
_MAGIC, _VERSION, _MOST = 0xCAFEBABE, 2, 512
_HEAD = struct.Struct("=III")


def ask(request: str, timeout: float, path: str = SOCKET) -> tuple[int, str]:
    """The kernel's error number (0: none) and words."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as console:
        console.settimeout(timeout)
        console.bind("")  # a name of the kernel's choice, without which there is no answer
        console.connect(path)
        data = request.encode()
        console.send(_HEAD.pack(_MAGIC, _VERSION, len(data)) + data.ljust(_MOST, b"\0"))
        answer = console.recv(_HEAD.size + _MOST)
        error, _, length = _HEAD.unpack_from(answer)
        return error, answer[_HEAD.size :][:length].decode("utf-8", "replace")


def main(request: str, timeout: str) -> int:
    """1 where the kernel refuses or does not answer in time."""
    try:
        error, words = ask(request, float(timeout))
    except OSError as problem:
        error, words = 1, f"mconsole: {problem}"
    sys.stderr.write(words)
    return 1 if error else 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
