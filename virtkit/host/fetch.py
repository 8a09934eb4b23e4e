"""Another host downloads a file and gives it to its own libvirt: `virtkit.host.programs.fetch`.

The program goes along as an argument of the host's Python and ends with the connection. What it
downloads has no name there, so nothing is left of it.
"""

from __future__ import annotations

import json
import shlex
import subprocess
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from virtkit._dataclass import dataclass
from virtkit.errors import RUN_AGAIN, VirtkitError
from virtkit.host.ssh import Remote
from virtkit.progress import Progress
from virtkit.system import commands

_PROGRAM = Path(__file__).with_name("programs") / "fetch.py"
#: What a shell answers where it finds no program.
_NOT_FOUND = 127


@dataclass(frozen=True)
class Downloaded:
    """A file that is there: its length and what of it is no hole, in bytes; its digests by kind."""

    length: int
    data: int
    digests: Mapping[str, str]


class Fetch:
    """A file that a host downloads.

    Args:
        url: where it is.
        scheme: a driver of libvirt's that the host has.
        pool: where it is to be a volume.
    """

    def __init__(
        self, remote: Remote, process: subprocess.Popen[str], url: str, scheme: str, pool: str
    ) -> None:
        self._remote = remote
        self._process = process
        self._url = url
        self._uri = f"{scheme}:///system"
        self._pool = pool

    def read(self, url: str) -> str:
        """The text that the host finds at a URL."""
        return str(self._ask(f"{url} can't be downloaded", do="read", url=url)["text"])

    def download(self, kind: str, on_progress: Callable[[dict[str, Any]], None]) -> Downloaded:
        """Has the file downloaded.

        Args:
            kind: of a digest that is wanted, beside sha256.
            on_progress: gets ``have`` and ``total`` in bytes now and then, the first time with the
                file's first bytes as ``head``, in base64; it may raise to give up.
        """
        what = f"{self._url} can't be downloaded"
        answer = self._ask(what, on_progress, do="download", url=self._url, kind=kind)
        return Downloaded(answer["length"], answer["data"], answer["digests"])

    def qemu_img(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """What qemu-img answers there, about the file."""
        answer = self._ask("qemu-img did not run", do="qemu-img", arguments=arguments)
        return subprocess.CompletedProcess(
            arguments, answer["code"], answer["out"], answer["errors"]
        )

    def upload(self, volume: str) -> None:
        """Fills a volume of the pool with the file."""
        what = f"upload volume {volume} failed"
        self._ask(what, do="upload", uri=self._uri, pool=self._pool, volume=volume)

    def _ask(
        self,
        what: str,
        on_progress: Callable[[dict[str, Any]], None] = lambda _: None,
        **question: Any,
    ) -> dict[str, Any]:
        """The program's answer.

        Raises:
            VirtkitError: it failed, with ``what``; or the host was not reached.
        """
        process = self._process
        assert process.stdin is not None
        assert process.stdout is not None
        try:
            print(json.dumps(question), file=process.stdin, flush=True)
        except BrokenPipeError:
            raise self._ended() from None
        for line in process.stdout:
            try:
                answer: dict[str, Any] = json.loads(line)
            except ValueError:
                continue  # what the shell there prints
            if "failed" in answer:
                raise self._failed(what, answer["failed"], answer["why"])
            if "progress" not in answer:
                return answer
            on_progress(answer["progress"])
        raise self._ended()

    def _failed(self, what: str, kind: str, why: str) -> VirtkitError:
        name = self._remote.name
        cures = {
            "network": f"check that host {name} reaches it ({self._remote.ssh_command} curl -IL "
            f"{shlex.quote(self._url)}), or remove `fetch: host`, and this machine fetches it",
            "disk": f"free some space on host {name} (df -h), then {RUN_AGAIN}",
            "program": f"check that host {name} has qemu-img and virsh, and room in its pool "
            f"(df -h), then {RUN_AGAIN}",
        }
        return VirtkitError(f"{what} on host {name}", why=why, cure=cures[kind], where=name)

    def _ended(self) -> VirtkitError:
        """Why the program is gone."""
        assert self._process.stderr is not None
        errors = self._process.stderr.read()
        code = self._process.wait()
        if code == 255:  # ssh's own
            return self._remote.unreachable(errors.encode())
        return VirtkitError(
            f"host {self._remote.name} can't download {self._url}",
            why=errors.strip()[-500:] or f"its Python exited with code {code}",
            cure="install Python there (sudo apt-get install python3), or remove `fetch: host`"
            if code == _NOT_FOUND
            else RUN_AGAIN,
            where=self._remote.name,
        )


@contextmanager
def fetching(
    remote: Remote, url: str, scheme: str, pool: str, progress: Progress
) -> Iterator[Fetch]:
    """A host that is ready to download; it ends with the block, and where the work should end.

    Raises:
        Interrupted: the work should end.
    """
    remote.connect()
    command = remote.command_line(shlex.join(["exec", "python3", "-IBSc", _PROGRAM.read_text()]))
    pipe = subprocess.PIPE
    with subprocess.Popen(
        commands.die_with_parent(command),
        stdin=pipe,
        stdout=pipe,
        stderr=pipe,
        text=True,
        errors="replace",
        env=commands.environment(),
        process_group=0,
    ) as process:
        try:
            with progress.on_cancel(process.kill):
                yield Fetch(remote, process, url, scheme, pool)
        except VirtkitError:
            progress.check_cancelled()  # then it was us who ended it
            raise
        finally:
            process.kill()
            assert process.stdin is not None
            with suppress(BrokenPipeError):  # a question that was not sent; its asker knows
                process.stdin.close()
