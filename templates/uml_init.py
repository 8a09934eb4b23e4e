"""The first process of a container that is User-Mode Linux (``MIB WORDS…``).

It starts the kernel, for each of the guest's boots anew, with the container's disks, network cards
and memory but ``MIB`` of it, and carries what the kernel prints to the container's console.
VIRTKIT_MACS are libvirt's addresses of the cards, with commas.
"""

import os
import re
import selectors
import signal
import socket
import struct
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

#: Rebooting, the kernel executes the name that it was started by, keeps what is open, and may hang
#: by the signals of that. So the name is a script's, which says by its exit code what was asked.
NAME, REBOOT = Path("/tmp/again"), 3
#: What the kernel prints before it does so: it may panic in between, by a signal that comes late.
REBOOTS = b"reboot: Restarting system"
#: Bytes of its last words among which that is looked for: a panic's come behind it.
LAST = 32768


def devices(given: list[str], macs: list[str]) -> list[str]:
    """The kernel's words for what the container has, but for disks whose words are given."""
    disks = [each.name for each in sorted(Path("/dev").glob("ubd?"))]
    cards = sorted(Path("/sys/class/net").glob("eth*"), key=lambda each: int(each.name[3:]))
    found = {each.name: (each / "address").read_text().strip() for each in cards}
    return [f"{each}=/dev/{each}" for each in disks if f"{each}r=/dev/{each}" not in given] + [
        f"vec{name[3:]}:transport=raw,ifname={name},depth=128,gro=1,mac={mac}"
        for name, mac in addresses(found, macs).items()
    ]


def addresses(found: dict[str, str], macs: list[str]) -> dict[str, str]:
    """The guest's addresses of the cards ``found``: libvirt's.

    The host's udev may have set another one before the card came into the container; then it is
    the first of ``macs`` that no card has. The kernel's raw socket takes what comes for it all the
    same: the card itself needs no change.
    """
    free = [each for each in macs if each not in found.values()]
    own = (*macs, "52:54:00:")  # what libvirt makes up begins so
    return {
        name: mac if mac.startswith(own) or not free else free.pop(0) for name, mac in found.items()
    }


def memory(room: int) -> int:
    """MiB for the kernel."""
    found = re.search(r"^MemTotal: *(\d+) kB$", Path("/proc/meminfo").read_text(), re.M)
    assert found, "libvirt shows the container its limit there"
    return int(found[1]) // 1024 - room


def boot(line: list[str], console: int) -> bool:
    """Runs the kernel until it ends; whether it was to boot again."""
    with subprocess.Popen(
        [str(NAME), *line],
        executable="/usr/bin/linux.uml",
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        start_new_session=True,  # a panic ends all of the kernel's process group
    ) as kernel:
        assert kernel.stdout
        words = carry(kernel.stdout.fileno(), console, os.pidfd_open(kernel.pid))
        code = kernel.wait()
    return code == REBOOT or (code != 0 and REBOOTS in words)


def carry(printed: int, console: int, end: int) -> bytes:
    """Carries what is printed to the console until a process ends; the last of it.

    libvirt does not read on where nobody reads the console: what finds no room is dropped, so that
    no guest waits.
    """
    os.set_blocking(printed, False)
    words, ended = b"", False
    with selectors.DefaultSelector() as ready:
        ready.register(printed, selectors.EVENT_READ)
        ready.register(end, selectors.EVENT_READ)
        while not ended:
            ended = any(key.fd == end for key, _ in ready.select())
            with suppress(BlockingIOError):
                while some := os.read(printed, 65536):
                    words = (words + some)[-LAST:]
                    with suppress(OSError):
                        os.write(console, some)
    os.close(end)
    return words


def clear() -> None:
    """Ends all other processes of the container, and removes what the kernel left."""
    with suppress(ProcessLookupError):
        os.kill(-1, signal.SIGKILL)
    with suppress(ChildProcessError):
        while True:
            os.wait()
    for each in Path("/tmp/guest").glob("*"):
        each.unlink()


def turn_off(kernel: str = "/tmp/guest/mconsole") -> None:
    """Presses the key that means off to the guest, by the kernel's console for its host."""
    with suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as console:
        console.setblocking(False)
        request = struct.pack("=III512s", 0xCAFEBABE, 2, 3, b"cad")
        console.sendto(request, kernel)


def main(room: str, *words: str) -> None:
    """Returns when the guest is off."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)  # to a first process: nothing
    # libvirt asks a container so to end, as it does for a host that shuts down
    signal.signal(signal.SIGTERM, lambda *_: turn_off())
    NAME.write_text(f"#!/usr/bin/sh\nexit {REBOOT}\n")
    NAME.chmod(0o755)
    # a description of its own, as the kernel sets its input's to its liking
    console = os.open("/proc/self/fd/1", os.O_WRONLY | os.O_NONBLOCK | os.O_NOCTTY)
    macs = re.findall("[0-9a-f:]+", os.environ.get("VIRTKIT_MACS", ""))
    line = [f"mem={memory(int(room))}M", *devices(list(words), macs), *words]
    while boot(line, console):
        clear()


if __name__ == "__main__":
    main(*sys.argv[1:])
