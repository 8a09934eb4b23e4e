"""Images that are built by an ordinary user: what is refused at once, and that nothing is left of a
build that ends, however it ends."""

from __future__ import annotations

import json
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import mirror as mirrors
import pytest
from integration.lab import until
from integration.ordinary_user import PATH, UID, USER, Machine, machine, processes

from virtkit.system import commands

SPEC = """
images: {own: {build: {distribution: debian, release: bookworm, packages: [hello], size: 64MiB}}}
guests: {a: {image: own, type: qemu, networks: []}}
"""
LAST_LINE = "interrupted; run again: it continues where it stopped\n"
KILLS = pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])

#: Says what `up` and `doctor` find before a build.
LOOK = """
import json
from virtkit.errors import VirtkitError
from virtkit.images import check_builds
try:
    check_builds()
    print(json.dumps({}))
except VirtkitError as error:
    print(json.dumps(error.as_dict()))
"""

#: What mmdebstrap does with its arguments and folders, with a system of three files.
MMDEBSTRAP = """#!/usr/bin/python3
import io, os, shlex, sys, tarfile
(hook,) = [each for each in sys.argv if each.startswith("--customize-hook=tar-in ")]
_, archive, where = shlex.split(hook.partition("=")[2])
with tarfile.open(archive) as given:
    assert "usr/lib/virtkit/init" in given.getnames() and where == "/"
room = os.path.join(os.environ["TMPDIR"], "mmdebstrap.tree")
os.mkdir(room)
os.chown(room, 33, 33)
with tarfile.open(fileobj=sys.stdout.buffer, mode="w|") as tree:
    for name in ("boot/vmlinuz", "boot/initrd", "var/www"):
        info = tarfile.TarInfo("./" + name)
        info.uid, info.size, info.mtime = 33, 4, 1
        tree.addfile(info, io.BytesIO(b"text"))
os.rmdir(room)
"""


@pytest.fixture
def plain() -> Iterator[Machine]:
    with machine() as plain:
        (plain.folder / "spec.yaml").write_text(SPEC)
        yield plain
        assert processes() == {}


def program(plain: Machine, name: str, text: str) -> None:
    path = plain.folder / "bin" / name
    path.parent.mkdir(exist_ok=True)
    path.write_text(text)
    path.chmod(0o755)


def own(plain: Machine) -> dict[str, str]:
    return {"PATH": f"{plain.folder}/bin:{PATH}"}


@contextmanager
def building(plain: Machine, **settings: str) -> Iterator[subprocess.Popen[str]]:
    words = plain.virtkit("image", "build", f"{plain.folder}/spec.yaml", "own")
    line = plain.line(*words, **settings)
    pipe = subprocess.PIPE
    with subprocess.Popen(line, stdout=pipe, stderr=pipe, text=True, cwd="/") as process:
        try:
            yield process
        finally:
            process.kill()


@contextmanager
def stalled(plain: Machine, **settings: str) -> Iterator[subprocess.Popen[str]]:
    """A build whose mmdebstrap, the real one, waits for a proxy that never answers."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.settimeout(60)
        address = f"http://127.0.0.1:{server.getsockname()[1]}"
        with building(plain, http_proxy=address, https_proxy=address, **settings) as process:
            server.accept()
            yield process


def left(plain: Machine) -> list[str]:
    """Names of what is left of builds."""
    folders = [plain.folder / "var", plain.folder / "tmp", plain.home / ".cache/virtkit/images"]
    every = [each for folder in folders if folder.is_dir() for each in folder.rglob("*")]
    return sorted(each.name for each in every if "build-" in each.name)


def ends(process: subprocess.Popen[str], number: signal.Signals, plain: Machine) -> None:
    """A signal ends all of it within seconds, and says so where it can."""
    began = time.monotonic()
    process.send_signal(number)
    _, err = process.communicate(timeout=60)
    if number != signal.SIGKILL:
        assert process.returncode == 130, err
        assert "interrupted: ending the build" in err
        assert err.endswith(LAST_LINE)
        assert "Traceback" not in err
        assert left(plain) == []
    assert until(lambda: not processes(), 5), processes()
    assert time.monotonic() - began < 5


@KILLS
def test_a_real_mmdebstrap(plain: Machine, number: signal.Signals) -> None:
    with stalled(plain) as process:
        assert any("mmdebstrap" in each for each in processes().values())
        ends(process, number, plain)
    stale = left(plain)
    assert bool(stale) == (number == signal.SIGKILL)
    assert {each.name for each in rooms(plain)} <= set(stale)
    # the next one builds beside nothing, and takes away what the killed one had to leave
    with stalled(plain) as process:
        assert not set(stale) & set(left(plain))
        ends(process, signal.SIGTERM, plain)


@KILLS
def test_the_file_system(plain: Machine, number: signal.Signals) -> None:
    """Files of subordinate ids lie in the cache then."""
    program(plain, "mmdebstrap", MMDEBSTRAP)
    program(plain, "mke2fs", "#!/bin/sh\ntrap '' TERM INT HUP\nsleep 4713 & wait; sleep 4713\n")
    with building(plain, **own(plain)) as process:
        assert until(lambda: any("sleep 4713" in each for each in processes().values()), 30)
        ends(process, number, plain)
    (plain.folder / "bin/mke2fs").unlink()
    done = build(plain)
    assert done.returncode == 0, done.stderr
    assert left(plain) == []


def test_what_a_kill_left_can_be_removed(plain: Machine) -> None:
    """By the command that `doctor --orphans` names, for it has files of other ids."""
    program(plain, "mmdebstrap", MMDEBSTRAP)
    program(plain, "mke2fs", "#!/bin/sh\nsleep 4713\n")
    with building(plain, **own(plain)) as process:
        assert until(lambda: any("sleep 4713" in each for each in processes().values()), 30)
        ends(process, signal.SIGKILL, plain)
    with stalled(plain) as process:
        ends(process, signal.SIGKILL, plain)
    assert rooms(plain)
    script = "from virtkit import images\nfor path, why in images.leftovers([]): "
    script += "print(images.removal_command(path))"
    told = plain.run(plain.python, "-P", "-c", script).stdout.splitlines()
    assert len(told) == 2
    for line in told:
        assert plain.run("sh", "-c", line).returncode == 0
    assert left(plain) == []


def rooms(plain: Machine) -> list[Path]:
    return list((plain.folder / "var").glob("virtkit-build-*"))


def build(
    plain: Machine, *words: str, user: bool = True, **settings: str
) -> subprocess.CompletedProcess[str]:
    spec = f"{plain.folder}/spec.yaml"
    line = plain.virtkit("image", "build", *words, spec, "own")
    path = {"PATH": f"{plain.folder}/bin:{PATH}"}
    return plain.run(*line, user=user, **(path | settings))


def test_folders_of_any_name(plain: Machine) -> None:
    """Blanks and quotes: mmdebstrap splits some of its arguments, and apt can't have a `"`."""
    program(plain, "mmdebstrap", MMDEBSTRAP)
    cache, room = plain.home / 'a "cache" of $mine\'s', plain.folder / "tmp/it's a room"
    plain.root(f"mkdir -m 1777 '{plain.folder}/tmp/it'\\''s a room'")
    done = build(plain, XDG_CACHE_HOME=str(cache), TMPDIR=str(room))
    assert done.returncode == 0, done.stderr
    assert (cache / "virtkit/images").is_dir()
    assert list(room.iterdir()) == []


def test_a_cache_that_moved(plain: Machine) -> None:
    """To another home, and to another user: whole as it is, it is taken as it is."""
    program(plain, "mmdebstrap", MMDEBSTRAP)
    first = build(plain, "--json")
    assert first.returncode == 0, first.stderr
    (plain.folder / "bin/mmdebstrap").unlink()
    there = plain.folder / "elsewhere"
    shutil.move(plain.home / ".cache", there)
    for user in (True, False):
        again = build(plain, "--json", user=user, XDG_CACHE_HOME=str(there))
        assert json.loads(again.stdout) == json.loads(first.stdout)
        assert "packages" not in again.stderr
    # image.json as it was written before, with the paths of where it was made
    (told,) = there.rglob("image.json")
    image = json.loads(told.read_text())
    roles = {role: f"/home/of/another/{image[role]}" for role in ("root", "kernel", "initrd")}
    told.write_text(json.dumps(image | roles))
    again = build(plain, "--json", XDG_CACHE_HOME=str(there))
    assert json.loads(again.stdout) == json.loads(first.stdout)


# --- what is looked at before ---------------------------------------------------------------


def build_error(plain: Machine, **settings: str) -> dict[str, str]:
    """The error of a build that can't work; empty where it can."""
    began = time.monotonic()
    done = plain.run(plain.python, "-P", "-c", LOOK, **settings)
    assert time.monotonic() - began < 10
    assert done.returncode == 0, done.stderr
    assert left(plain) == []
    answer: dict[str, str] = json.loads(done.stdout)
    return answer


def test_a_plain_machine_can(plain: Machine) -> None:
    assert build_error(plain) == {}
    assert build_error(plain, PATH="/usr/bin:/bin") == {}


@pytest.mark.parametrize("files", ["/etc/subuid /etc/subgid", "/etc/subuid", "/etc/subgid"])
def test_a_user_without_ids(plain: Machine, files: str) -> None:
    plain.root(f"sed -i '/^{USER}:/d' {files}")
    error = build_error(plain)
    assert error["code"] == 2
    for file in files.split():
        assert f"{file} has no line for {USER}" in error["why"]
    done = build(plain, "--json")
    assert done.returncode == 2
    assert json.loads(done.stdout)["error"] == error
    plain.root(error["cure"].removeprefix("as root: "))
    assert build_error(plain) == {}


def test_a_user_of_a_directory_service(plain: Machine) -> None:
    """One whom usermod does not know."""
    plain.root(f"sed -i '/^{USER}:/d' /etc/passwd /etc/shadow /etc/subuid /etc/subgid")
    done = plain.run(
        "setpriv", f"--reuid={UID}", f"--regid={UID}", "--clear-groups", plain.python, "-P", "-c",
        LOOK, user=False, HOME=str(plain.home),
    )  # fmt: skip
    error = json.loads(done.stdout)
    assert f"/etc/subuid has no line for {UID}" in error["why"]
    assert "tee -a" in error["cure"]


def test_a_user_in_another_group_s_shell(plain: Machine) -> None:
    """As after `sg libvirt`, which newuidmap refuses."""
    error = build_error(plain, group="daemon")
    assert f"sg {USER} -c" in error["cure"]


def mounted(plain: Machine, options: str) -> None:
    plain.root("".join(f"mount -t tmpfs {options} t {each}; " for each in ("/tmp", "/var/tmp")))


@pytest.mark.parametrize(
    ("options", "why"), [("-o noexec", "mounted noexec"), ("-o size=300M", "300 MiB are free")]
)
def test_no_room(plain: Machine, options: str, why: str) -> None:
    mounted(plain, f"{options},mode=1777")
    error = build_error(plain)
    for folder in ("/tmp", "/var/tmp"):
        assert f"{folder}: " in error["why"]
    assert why in error["why"]
    assert "TMPDIR=" in error["cure"]
    done = build(plain)
    assert done.returncode == 2
    assert "apt-get update" not in done.stderr
    # and the cure
    plain.root("mkdir -m 1777 /srv/room")
    try:
        assert build_error(plain, TMPDIR="/srv/room") == {}
    finally:
        plain.root("rmdir /srv/room")


def test_the_room_is_where_there_is_one(plain: Machine) -> None:
    """The caller's own folder where it will do, else /var/tmp, else /tmp."""

    def chosen(**settings: str) -> list[str]:
        with stalled(plain, **settings) as process:
            found = plain.run("find", "/tmp", "/var/tmp", "-name", "virtkit-build-*", user=False)
            ends(process, signal.SIGTERM, plain)
        return [str(Path(each).parent) for each in found.stdout.split()]

    plain.root(f"mkdir -m 755 /tmp/own /tmp/closed; chown {USER} /tmp/own /tmp/closed")
    assert chosen() == ["/var/tmp"]
    assert chosen(TMPDIR="/tmp/own") == ["/tmp/own"]
    # as libpam-tmpdir has it: the ids of a namespace can't pass
    plain.root("chmod 700 /tmp/closed")
    assert chosen(TMPDIR="/tmp/closed") == ["/var/tmp"]
    plain.root("mount -t tmpfs -o noexec t /var/tmp")
    assert chosen() == ["/tmp"]


def test_no_room_in_the_cache(plain: Machine) -> None:
    plain.root("mkdir -m 1777 /var/tmp/cache; mount -t tmpfs -o size=200M t /var/tmp/cache")
    error = build_error(plain, XDG_CACHE_HOME="/var/tmp/cache")
    assert "/var/tmp/cache/virtkit/images" in error["what"]
    assert "df -h /var/tmp/cache/virtkit/images" in error["cure"]


def test_a_missing_program(plain: Machine) -> None:
    for name, package in (("mke2fs", "e2fsprogs"), ("newuidmap", "uidmap")):
        path = commands.find(name)
        plain.root(f"mount --bind /dev/null {path}")
        error = build_error(plain)
        assert error["what"] == f"{name} is missing on this machine"
        assert error["cure"] == f"sudo apt-get install {package}"
        plain.root(f"umount {path}")


def test_doctor_says_the_same(plain: Machine) -> None:
    plain.root(f"sed -i '/^{USER}:/d' /etc/subuid")
    done = plain.run(*plain.virtkit("doctor", "--json"))
    checks = {each["name"]: each for each in json.loads(done.stdout)["checks"]}
    assert checks["image builds"]["ok"] is False
    assert checks["image builds"]["cure"] == build_error(plain)["cure"]
    plain.root(checks["image builds"]["cure"].removeprefix("as root: "))
    done = plain.run(*plain.virtkit("doctor", "--json"))
    checks = {each["name"]: each for each in json.loads(done.stdout)["checks"]}
    assert checks["image builds"]["ok"] is True


#: What a build does with packages that need no dpkg; prints what the image keeps of its sources.
EXTRACTS = """
import os, sys, tarfile
from pathlib import Path
from virtkit.errors import VirtkitError
from virtkit.images import apt, build_errors, build_folder, sandbox
from virtkit.progress import Progress
work = Path(sys.argv[1])
own = apt.sources("bookworm")
def failed(lines):
    return build_errors.failure("not built", lines, folder=work)
with build_folder.tree_folder(work) as tree:
    line = ["mmdebstrap", "--mode=root", "--variant=extract", "--format=tar", "--include=tiny"]
    line += [*apt.setup_hooks(tree.parent / "apt", own), "bookworm", "-"]
    line += [each.line for each in own]
    try:
        sandbox.run(line, root="subordinate", work=tree, failed=failed, progress=Progress(),
            output=work / "tree.tar")
    except VirtkitError as error:
        sys.exit(str(error.as_dict()))
    owner = (tree.parent / "apt").stat()
    print(owner.st_uid != os.geteuid(), oct(owner.st_mode & 0o777))
with tarfile.open(work / "tree.tar") as tar:
    print(tar.extractfile("./usr/share/tiny/file").read().decode())
    print(tar.extractfile("./etc/apt/sources.list").read().decode())
"""


@pytest.mark.skipif(not all(map(shutil.which, mirrors.PROGRAMS)), reason="needs apt and gpg")
def test_a_mirror_with_a_login_works_for_a_user(plain: Machine) -> None:
    """Who may read the login: the build's root is another id, and has it by a file of its own."""
    place = plain.folder / "mirror"
    place.mkdir()
    mirrors.make(place)
    with mirrors.served(place) as mirror:
        machine = f"http://{mirror.host}"
        login = f"machine {machine} login {mirrors.USER} password {mirrors.PASSWORD}"
        key = place / "key.gpg"
        plain.root(
            f"mkdir -p {place}/lists/partial {place}/cache/archives/partial {place}/auth\n"
            f"echo 'deb [signed-by={key}] {machine}/debian bookworm main' >{place}/a.list\n"
            f"echo '{login}' >{place}/auth/a.conf\n"
            f"chown {USER} {place}/auth/a.conf {place}/lists {place}/cache; "
            f"chown {USER} {place}/lists/partial {place}/cache/archives/partial\n"
            f"chmod 400 {place}/auth/a.conf; rm -r {place}/gnupg\n"
            f"printf 'Dir::Etc::%s;\\n' 'SourceList \"{place}/a.list\"' "
            f"'SourceParts \"/dev/null\"' 'netrcparts \"{place}/auth\"' >{place}/apt.conf\n"
            f"printf 'Dir::%s;\\n' 'State::Lists \"{place}/lists\"' 'Cache \"{place}/cache\"' "
            f">>{place}/apt.conf"
        )
        settings = {"APT_CONFIG": f"{place}/apt.conf"}
        update = plain.run("apt-get", "update", "--error-on=any", **settings)
        assert update.returncode == 0, update.stderr
        work = plain.home / "work"
        plain.run("mkdir", str(work))
        done = plain.run(plain.python, "-P", "-c", EXTRACTS, work, **settings)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == [
        "True 0o700",
        "it was installed",
        f"deb {machine}/debian/ bookworm main",
        "",
    ]
    assert mirrors.PASSWORD not in done.stdout + done.stderr
    assert left(plain) == []
