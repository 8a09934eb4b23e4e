"""What a build that failed is told with. The lines are mmdebstrap's, apt's and mke2fs's own."""

from __future__ import annotations

from pathlib import Path

import pytest

from virtkit.images.build_errors import failure

ROOM = Path("/var/tmp/virtkit-build-1/tree")

UNKNOWN = """\
Building dependency tree...
E: Unable to locate package no-such-thing
E: Unable to locate package also-none
E: setup failed: E: apt-get -o Dir::Bin::dpkg=env -o DPkg::Options::=--unset=TMPDIR failed
I: main() received signal PIPE: waiting for setup...
E: mmdebstrap failed to run
"""
UNREACHED = """\
E: Failed to fetch http://deb.debian.org/debian/dists/bookworm/InRelease  Could not connect to \
127.0.0.1:9 (127.0.0.1). - connect (111: Connection refused)
E: Some index files failed to download. They have been ignored, or old ones used instead.
E: apt-get update --error-on=any -oAPT::Status-Fd=<$fd> -oDpkg::Use-Pty=false failed
E: mmdebstrap failed to run
"""
NO_RELEASE = """\
E: The repository 'http://deb.debian.org/debian bokworm Release' does not have a Release file.
E: apt-get update --error-on=any -oAPT::Status-Fd=<$fd> -oDpkg::Use-Pty=false failed
"""
GONE = """\
Err:9 http://deb.debian.org/debian bookworm/main amd64 less amd64 590-2.1
  404  Not Found [IP: 192.0.2.1 80]
E: Failed to fetch http://deb.debian.org/debian/pool/main/l/less/less_590-2.1_amd64.deb  404  \
Not Found [IP: 192.0.2.1 80]
E: Unable to fetch some archives, maybe run apt-get update or try with --fix-missing?
"""
FULL = """\
tar: ./usr/share/doc/libc6/changelog.gz: Cannot write: No space left on device
tar: Exiting with failure status due to previous errors
E: tar --extract failed: 512
"""
FULL_LISTS = "E: Write error - write (28: No space left on device)\nE: mmdebstrap failed to run\n"
FULL_ARCHIVE = """\
I: creating tarball...
W: creating tarball failed: E: cannot copy to standard output: No space left on device
E: mmdebstrap failed to run
"""
TOO_SMALL = """\
__populate_fs: Could not allocate block in ext2 filesystem while writing file "a"
mke2fs: Could not allocate block in ext2 filesystem while populating file system
"""


@pytest.mark.parametrize(
    ("said", "cure"),
    [
        (UNKNOWN, "correct `packages:` of the image in the spec: the release has no no-such-thing"),
        (UNREACHED, "check that `apt-get update` works on this machine"),
        (NO_RELEASE, "correct the image's `release:`"),
        (GONE, "run again: the mirror changed meanwhile"),
        (FULL, f"{ROOM} is full"),
        (FULL_LISTS, f"{ROOM} is full"),
        (FULL_ARCHIVE, f"{ROOM} is full"),
        (TOO_SMALL, "give the image a larger `size:`"),
        ("E: something new\n", "see what the lines above say"),
        ("", "see what the lines above say"),
    ],
)
def test_the_cure_follows_the_cause(said: str, cure: str) -> None:
    error = failure("it was not built", said.splitlines(), folder=ROOM)
    assert error.cure.startswith(cure)
    assert error.exit_code == 1


def test_a_folder_with_a_space_is_quoted() -> None:
    folder = Path("/home/ann/my cache")
    cure = failure("it was not built", FULL.splitlines(), folder=folder).cure
    assert "(df -h '/home/ann/my cache')" in cure


def test_both_unknown_packages_are_named() -> None:
    cure = failure("it was not built", UNKNOWN.splitlines(), folder=ROOM).cure
    assert "no-such-thing, also-none" in cure
    assert "apt-get update" not in cure


def test_few_and_short_lines() -> None:
    long = "dpkg: error: " + "x" * 3500 + " Permission denied"
    lines = [f"Get:{n} http://deb.debian.org …" for n in range(300)] + [long, "E: dpkg failed"]
    why = failure("it was not built", lines, folder=ROOM).why
    assert why.splitlines()[-1] == "E: dpkg failed"
    assert why.count("\n") < 8
    assert max(map(len, why.splitlines())) < 260
    assert "dpkg: error: xxx" in why
    assert "Permission denied" in why
    assert "Get:" not in why


def test_where_no_line_tells_the_last_are_told() -> None:
    lines = [f"line {n}" for n in range(100)]
    assert failure("it was not built", lines, folder=ROOM).why.splitlines() == lines[-8:]
