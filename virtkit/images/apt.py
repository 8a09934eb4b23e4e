"""Where the packages of an image come from: this machine's own apt sources, with all that apt needs
to use them here.

What a build downloads from stands in files that its root alone reads: mirrors with their passwords
and keyrings, apt's logins, proxies. What an image keeps is the plain mirrors. A password must never
reach a command line, an environment that packages' scripts get, or an image.
"""

from __future__ import annotations

import os
import re
import shlex
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path

from virtkit._dataclass import dataclass
from virtkit.images import sandbox
from virtkit.images.build_errors import without_user
from virtkit.progress import Progress
from virtkit.system import commands

#: Settings of the caller's apt that say how it reaches a mirror.
_TRANSPORT = re.compile(
    r"Acquire::(https?::.+|ForceIPv[46]|Retries|Check-Valid-Until|Max-FutureTime)", re.IGNORECASE
)
#: Fields of a source that are virtkit's to say, or of no use to a build.
_OURS = {"types", "uris", "suites", "components", "enabled", "architectures", "arch", "languages"}
_OURS |= {"lang", "targets", "target", "pdiffs"}
#: What apt takes for no.
_NO = {"no", "false", "without", "off", "disable", "0"}
#: Environment variables with a proxy's address that apt goes by.
_PROXIES = {"http_proxy": "Acquire::http::Proxy", "https_proxy": "Acquire::https::Proxy"}
#: One-line sources: `deb [options] URI suite components`.
_LINE = re.compile(r"\s*deb\s+(?:\[([^\]]*)\]\s+)?(\S+)\s+(\S+)(?:\s|$)")


@dataclass(frozen=True)
class Source:
    """One suite of a mirror. ``uri`` may hold a password; ``fields`` are those of a deb822 source
    beside what and where, such as ``Signed-By``."""

    uri: str
    suite: str
    component: str
    fields: tuple[tuple[str, str], ...] = ()

    @property
    def line(self) -> str:
        """The plain mirror, as a line of a sources.list."""
        return f"deb {without_user(self.uri)} {self.suite} {self.component}"

    @property
    def stanza(self) -> str:
        """All of it, as deb822."""
        fields = {"Types": "deb", "URIs": self.uri, "Suites": self.suite}
        fields |= {"Components": self.component, **dict(self.fields)}
        return "".join(f"{name}: {value}\n" for name, value in fields.items())


def sources(release: str, progress: Progress | None = None) -> list[Source]:
    """This machine's own sources of a Debian release; none where the release itself has none."""
    columns = "$(REPO_URI) $(RELEASE) $(COMPONENT) $(SOURCESENTRY)"
    options = ("--format", columns, "Created-By: Packages", "Origin: Debian")
    listing = commands.run("apt-get", "indextargets", *options, progress=progress)
    suites = (release, f"{release}-updates", f"{release}-security")
    answer: dict[str, Source] = {}
    for line in listing.stdout.splitlines():
        uri, suite, component, entry = [*line.split(maxsplit=3), ""][:4]
        if suite in suites and component == "main" and uri.startswith(("http://", "https://")):
            fields = _fields(Path(entry.rpartition(":")[0]), uri, suite)
            source = Source(uri, suite, component, fields)
            answer.setdefault(source.line, source)  # apt wants each once
    # Without the release itself the rest is of no use.
    any_of_it = any(each.suite == release for each in answer.values())
    return [answer[line] for line in sorted(answer)] if any_of_it else []


def _fields(path: Path, uri: str, suite: str) -> tuple[tuple[str, str], ...]:
    try:
        text = path.read_text(errors="replace")
    except OSError:
        return ()
    read = _of_stanzas if path.suffix == ".sources" else _of_lines
    return tuple(read(text, uri, suite).items())


def _of_stanzas(text: str, uri: str, suite: str) -> Mapping[str, str]:
    """The fields of the deb822 source of a mirror and a suite."""
    for paragraph in re.split(r"\n[ \t]*\n", text.replace("\r\n", "\n")):
        fields: dict[str, str] = {}
        name = ""
        for line in paragraph.splitlines():
            if line.startswith("#"):
                continue
            if line[:1] in (" ", "\t") and name:
                fields[name] += f"\n{line.rstrip()}"
            elif ":" in line:
                name, _, value = line.partition(":")
                fields[name] = value.strip()
        low = {each.lower(): value for each, value in fields.items()}
        used = "deb" in low.get("types", "").split() and low.get("enabled", "").lower() not in _NO
        if used and _is_in(uri, low.get("uris", "")) and suite in low.get("suites", "").split():
            return {each: value for each, value in fields.items() if each.lower() not in _OURS}
    return {}


def _of_lines(text: str, uri: str, suite: str) -> Mapping[str, str]:
    """The options of a line for a mirror and a suite, as fields of deb822."""
    for line in text.splitlines():
        match = _LINE.match(line)
        if match and _is_in(uri, match[2]) and match[3] == suite:
            options = re.findall(r"([\w-]+)[+-]?=(\"[^\"]*\"|\S+)", match[1] or "")
            return {
                name: value.strip('"').replace(",", " ")
                for name, value in options
                if name.lower() not in _OURS
            }
    return {}


def _is_in(uri: str, uris: str) -> bool:
    """Whether a mirror is one of several. apt may write the login in another way than its file."""
    plain = without_user(uri).rstrip("/")
    return plain in (without_user(each).rstrip("/") for each in uris.split())


def settings(progress: Progress | None = None) -> list[str]:
    """The caller's settings of how apt reaches a mirror, as lines of an apt.conf."""
    dump = commands.run("apt-config", "dump", "--format", "%f%N%v%n", progress=progress).stdout
    pairs = [line.partition("\t")[::2] for line in dump.splitlines()]
    options = [(name, value) for name, value in pairs if _TRANSPORT.fullmatch(name) and value]
    names = {name.lower() for name, _ in options}
    for variable, name in _PROXIES.items():
        value = os.environ.get(variable, "")
        if sandbox.holds_login(value) and name.lower() not in names:
            options.append((name, value))
    return [f'{name} "{value}";' for name, value in options if '"' not in value]


def _logins(progress: Progress | None) -> str:
    """The caller's apt_auth.conf(5), of one file and all parts; what can't be read is left out."""
    arguments = ("shell", "file", "Dir::Etc::netrc/f", "parts", "Dir::Etc::netrcparts/d")
    output = commands.run("apt-config", *arguments, progress=progress).stdout
    locations = dict(each.partition("=")[::2] for each in shlex.split(output))
    texts = []
    paths = [Path(locations.get("file") or "/etc/apt/auth.conf")]
    with suppress(OSError):
        paths += sorted(Path(locations.get("parts") or "/etc/apt/auth.conf.d").glob("*.conf"))
    for path in paths:
        with suppress(OSError):
            texts.append(path.read_text(errors="surrogateescape"))
    return "\n".join(texts)


def setup_hooks(
    folder: Path, own_sources: Sequence[Source], progress: Progress | None = None
) -> list[str]:
    """mmdebstrap's options for a build that uses this machine's sources.

    Args:
        folder: gets the files for it. It must be passed through by the build's root.
        own_sources: the sources; without any, mmdebstrap takes the distribution's own servers.
    """
    files = {"auth.conf": _logins(progress)}
    conf = [*settings(progress), f'Dir::Etc::netrc "{folder}/auth.conf";']
    if own_sources:
        files["build.sources"] = "\n".join(each.stanza for each in own_sources)
        conf.append(f'Dir::Etc::SourceList "{folder}/build.sources";')
        conf.append('Dir::Etc::SourceParts "/dev/null";')
    files["apt.conf"] = "".join(f"{line}\n" for line in conf)
    _write(folder, files)
    # its own apt.conf goes with the build, and others may read it: it gets no more than the path
    include = shlex.quote(f'#include "{folder}/apt.conf";')
    return [f'--setup-hook=echo {include} >>"$MMDEBSTRAP_APT_CONFIG"']


def _write(folder: Path, files: Mapping[str, str]) -> None:
    """Files in a new folder that the root of a subordinate namespace alone can read."""
    folder.mkdir(mode=0o700)
    for name, text in files.items():
        (folder / name).touch(mode=0o600)
        (folder / name).write_text(text, errors="surrogateescape")
    if os.geteuid() != 0:
        commands.run(*sandbox.namespaces("own"), "chown", "-R", "1:1", "--", str(folder))
