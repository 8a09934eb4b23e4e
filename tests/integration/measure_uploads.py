"""How long an image takes to another host by ssh, against a sparse copy on the same disk.

    tests/sandbox .venv/bin/python tests/integration/measure_uploads.py [MIB] [ROUNDS]

The disk has so many MiB of random data, as much in holes, and zeros. A line a round: seconds until
it is written, and until it is on disk, of ``cp`` and of the step that puts the image into the
host's pool; then the least of each, and the upload's processor time by process.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from integration.several_hosts import LibvirtHost, several_hosts
from integration.test_hosts_images import sparse_disk

from virtkit.host import Host, Remote
from virtkit.images import pool
from virtkit.images.cache import LocalImage
from virtkit.progress import Progress
from virtkit.spec import Image
from virtkit.state.desired import ImageRef


def processor_time() -> Counter[str]:
    """Seconds that each process has had so far, by its name and number."""
    answer: Counter[str] = Counter()
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            before, _, after = path.read_text().rpartition(")")
        except OSError:  # it has ended
            continue
        words = after.split()
        answer[before.replace(" (", " ")] = sum(map(int, words[11:13])) / os.sysconf("SC_CLK_TCK")
    return answer


def seconds(work: Callable[[], object], on_disk: Callable[[], object]) -> tuple[float, float]:
    os.sync()
    began = time.monotonic()
    work()
    written = time.monotonic() - began
    on_disk()
    return written, time.monotonic() - began


def measure(folder: Path, libvirt_host: LibvirtHost, mib: int, rounds: int) -> None:
    path, copy = folder / "disk.raw", folder / "copy"
    sparse_disk(path, mib)
    remote = Remote(
        "h1", f"ops@{libvirt_host.address}", 0, str(libvirt_host.key), str(libvirt_host.known_hosts)
    )
    host = Host("h1", remote=remote)
    host.connections.any()
    host.storage.ensure()
    ref = ImageRef("disk", Image.model_construct(path=str(path)), "")
    least = [float("inf")] * 4
    times: Counter[str] = Counter()
    for number in range(rounds):
        image = LocalImage(f"{number:064d}", str(path), "raw", path.stat().st_size)
        volume = f"{host.storage.describe().path}/virtkit-{image.content[:20]}.root"
        copied = seconds(
            lambda: subprocess.run(["cp", "--sparse=always", path, copy], check=True),
            lambda: subprocess.run(["sync", copy], check=True),
        )
        copy.unlink()
        before = processor_time()
        sent = seconds(
            lambda image=image: pool.upload(host, ref, image, Progress()),
            lambda volume=volume: libvirt_host.ssh(f"sync {volume}"),
        )
        times = processor_time() - before
        assert (
            libvirt_host.ssh(f"sha256sum <{volume}")
            == subprocess.run(
                ["sha256sum"], stdin=path.open("rb"), capture_output=True, text=True, check=True
            ).stdout.strip()
        )
        host.storage.delete(volume)
        print("cp {:.2f} {:.2f}  up {:.2f} {:.2f}".format(*copied, *sent), flush=True)
        least = [min(pair) for pair in zip(least, (*copied, *sent), strict=True)]
    print("least: cp {:.2f} {:.2f}  up {:.2f} {:.2f}".format(*least))
    print(*(f"{name} {spent:.2f}" for name, spent in times.most_common(5)), sep=", ")


def main(mib: str = "400", rounds: str = "8") -> None:
    with tempfile.TemporaryDirectory(dir="/var/tmp") as name:
        folder = Path(name)
        (folder / "hosts").mkdir()
        with several_hosts(folder / "hosts", 1) as (libvirt_host,):
            measure(folder, libvirt_host, int(mib), int(rounds))


if __name__ == "__main__":
    main(*sys.argv[1:])
