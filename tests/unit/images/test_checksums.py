"""The digests that distributions publish, in their forms."""

from __future__ import annotations

import hashlib
import shutil
import subprocess
from pathlib import Path

import pytest

from virtkit.errors import VirtkitError
from virtkit.images.checksums import Digest, find_digest

NAME = "disk.qcow2"
URL = f"https://example.org/images/{NAME}"
SUMS = "https://example.org/images/SHA256SUMS"
MD5, SHA1 = hashlib.md5(b"x").hexdigest(), hashlib.sha1(b"x").hexdigest()
S256, S384, S512 = (hashlib.new(kind, b"x").hexdigest() for kind in ("sha256", "sha384", "sha512"))
OTHER = hashlib.sha256(b"other").hexdigest()
B2 = hashlib.blake2b(b"x").hexdigest()


def refused(text: str, checksums: str = SUMS, url: str = URL) -> VirtkitError:
    with pytest.raises(VirtkitError) as caught:
        find_digest(text, checksums, url)
    assert caught.value.cure
    return caught.value


@pytest.mark.parametrize("value", [S256, S384, S512])
@pytest.mark.parametrize(
    "form",
    [
        "{value}  disk.qcow2",
        "{value} *disk.qcow2",
        "{value} disk.qcow2",
        "{value}\tdisk.qcow2",
        "{value}  ./disk.qcow2",
        "{value}  images/disk.qcow2",
        "{value}  /srv/ftp/disk.qcow2",
        "\\{value}  disk.qcow2",
        "{kind} (disk.qcow2) = {value}",
        "{kind} (./x/disk.qcow2) = {value}",
        "{kind}(disk.qcow2)= {value}",
        "{dashed} (disk.qcow2) = {value}",
        "SHA2-{bits}(disk.qcow2)= {value}",
    ],
)
@pytest.mark.parametrize("around", ["{}\n", "{}\r\n", "\ufeff{}", "# a comment\n\n  {}  \n# end\n"])
def test_forms_of_a_line(value: str, form: str, around: str) -> None:
    bits = len(value) * 4
    kind = f"sha{bits}"
    line = form.format(value=value, kind=kind.upper(), dashed=f"SHA-{bits}", bits=bits)
    other = f"{OTHER}  other.qcow2\n{OTHER}  {NAME}.sig\n{OTHER}  my{NAME}\n"
    for text in (line, line.replace(value, value.upper())):
        assert find_digest(around.format(other + text), SUMS, URL) == Digest(kind, value)


FEDORA = f"""-----BEGIN PGP SIGNED MESSAGE-----
Hash: SHA256

# other.qcow2: 556793344 bytes
SHA256 (other.qcow2) = {OTHER}
# {NAME}: 556793344 bytes
SHA256 ({NAME}) = {S256}
- - a line that was escaped
-----BEGIN PGP SIGNATURE-----

iQIzBAEBCAAdFiEE6PI5VxYnwCdGnXLNnLrdB5+ZmHYFAmcZ
{OTHER}
=abcd
-----END PGP SIGNATURE-----
"""
GENTOO = f"""# BLAKE2B HASH
{B2}  {NAME}
# SHA512 HASH
{S512}  {NAME}
"""
FLATCAR = f"# MD5 HASH\n{MD5}  {NAME}\n# SHA1 HASH\n{SHA1}  {NAME}\n# SHA512 HASH\n{S512}  {NAME}\n"


@pytest.mark.parametrize(
    ("text", "expected"),
    [(FEDORA, S256), (FEDORA.replace("\n", "\r\n"), S256), (GENTOO, S512), (FLATCAR, S512)],
)
def test_whole_files(text: str, expected: str) -> None:
    assert find_digest(text, "https://example.org/CHECKSUM", URL).value == expected


def test_the_strongest_is_taken() -> None:
    lines = [f"{each}  {NAME}" for each in (MD5, S256, SHA1, S512, S384)]
    assert find_digest("\n".join(lines), SUMS, URL) == Digest("sha512", S512)


@pytest.mark.parametrize(
    ("sums", "text"),
    [
        (f"{URL}.sha256", S256),  # Alpine
        (f"{URL}.sha256", f"{S256}\r\n"),
        (f"{URL}.SHA256", f"{S256}  disk-20240101.1234.qcow2\n"),  # Arch: the build's name
        (f"{URL}.sha256", f"{S256}  disk-1.0-Build7.qcow2\n"),  # openSUSE
        (f"{URL}.SHA256SUM", f"# x: 7 bytes\nSHA256 (x) = {S256}\n"),
        ("https://example.org/digest?of=it", S256),
    ],
)
def test_files_for_one_file(sums: str, text: str) -> None:
    assert find_digest(text, sums, URL) == Digest("sha256", S256)


@pytest.mark.parametrize(
    ("sums", "value"),
    [
        ("https://example.org/images/SHA384SUMS", S384),
        (f"{URL}.sha384", S384),
        ("https://example.org/images/SHA512SUMS", S512),
    ],
)
def test_files_that_are_called_by_their_kind(sums: str, value: str) -> None:
    assert find_digest(f"{value}  {NAME}\n", sums, URL).value == value


def test_an_image_that_is_called_as_another_kind() -> None:
    url = "https://example.org/blake2.img"
    assert find_digest(f"{S256}  blake2.img\n", f"{url}.sha256", url) == Digest("sha256", S256)


def test_a_name_with_signs() -> None:
    text = f"{OTHER}  a b.img\n{S256}  a+(b) c.img\nSHA512 (a+(b) c.img) = {S512}\n"
    url = "https://example.org/a%2B(b)%20c.img?x=1#y"
    assert find_digest(text, SUMS, url).value == S512


def test_several_of_one_name() -> None:
    """The one in the URL's own folder is meant."""
    text = f"{OTHER}  arm64/disk.qcow2\n{S256}  ./amd64/disk.qcow2\n"
    assert find_digest(text, SUMS, "https://example.org/v1/amd64/disk.qcow2").value == S256
    error = refused(text, url="https://example.org/v1/disk.qcow2")
    assert "2 sha256 digests" in error.what
    assert "arm64/disk.qcow2" in error.why
    assert find_digest(f"{S256}  {NAME}\n" * 2, SUMS, URL).value == S256, "twice the same"


def test_a_path_is_from_the_checksums_file() -> None:
    text = f"{S256}  {NAME}\n{OTHER}  images/{NAME}\n"
    assert find_digest(text, SUMS, URL).value == S256
    assert find_digest(text, "https://example.org/SHA256SUMS", URL).value == OTHER


@pytest.mark.parametrize("value", [MD5, SHA1])
@pytest.mark.parametrize("form", ["{value}  {name}", "{kind} ({name}) = {value}"])
def test_kinds_that_can_be_forged(value: str, form: str) -> None:
    kind = {32: "md5", 40: "sha1"}[len(value)]
    error = refused(form.format(value=value, kind=kind.upper(), name=NAME))
    assert "that can be relied on" in error.what
    assert f"it has {kind} only: files can be forged" in error.why
    assert "sha512" in error.cure


@pytest.mark.parametrize(
    ("sums", "text"),
    [
        (SUMS, f"BLAKE2b ({NAME}) = {B2}"),
        (SUMS, f"SHA3-512 ({NAME}) = {S512}"),
        (SUMS, f"SHA512/256 ({NAME}) = {S256}"),
        (SUMS, f"SHA512 ({NAME}) = {S256}"),
        (SUMS, f"# BLAKE2B HASH\n{B2}  {NAME}"),
        ("https://example.org/B2SUMS", f"{B2}  {NAME}"),
        (f"{URL}.blake2b", B2),
        (f"{URL}.b3sum", S256),
        ("https://example.org/SHA512-256SUMS", f"{S256}  {NAME}"),
        ("https://example.org/SHA3-384SUMS", f"{S384}  {NAME}"),
        (SUMS, f"{S256[:-8]}  {NAME}"),
    ],
)
def test_kinds_that_only_look_like_others(sums: str, text: str) -> None:
    assert "it has another kind only: virtkit does not compute" in refused(text, sums).why


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("", "it is 0 characters without a digest"),
        (f"1 {NAME}\n", "without a digest"),
        ("<!DOCTYPE html><p>not found</p>", "it is a web page without a digest"),
        (f"{OTHER}  other.qcow2\n", f"looked for {NAME}; it has sha256 of other.qcow2"),
        (f"{OTHER}  {NAME}.xz\n", f"it has sha256 of {NAME}.xz"),
        (f"{OTHER}  my-{NAME}\n{S512}  b\n", f"sha256 and sha512 of my-{NAME}, b"),
        (f"{OTHER}\n{OTHER}  a\n", "it has sha256 of a"),
        ("\0\xff\ufffd" * 100, "without a digest"),
    ],
)
def test_none_fits(text: str, why: str) -> None:
    error = refused(text)
    assert f"has no line for {NAME}" in error.what
    assert why in error.why


def test_a_name_that_is_nearly_it() -> None:
    assert "did you mean disk.qcow2.xz?" in refused(f"{OTHER}  {NAME}.xz\n").cure


def test_many_names_are_not_all_told() -> None:
    error = refused("".join(f"{OTHER}  {number}.img\n" for number in range(100)))
    assert error.why.endswith("4.img, …")


@pytest.mark.parametrize(
    "line",
    [
        ["sha256sum", NAME],
        ["sha256sum", "-b", NAME],
        ["sha256sum", "--tag", NAME],
        ["sha512sum", f"./{NAME}"],
        ["sha384sum", "--tag", NAME],
        ["openssl", "dgst", "-sha256", NAME],
        ["openssl", "sha512", NAME],
        ["shasum", "-a", "512", NAME],
    ],
)
def test_what_programs_print(line: list[str], tmp_path: Path) -> None:
    if not shutil.which(line[0]):
        pytest.skip(f"needs {line[0]}")
    (tmp_path / NAME).write_bytes(b"x")
    done = subprocess.run(line, cwd=tmp_path, capture_output=True, text=True, check=True)
    assert find_digest(done.stdout, SUMS, URL).value in (S256, S384, S512)


def test_a_text_that_gpg_signed(tmp_path: Path) -> None:
    if not shutil.which("gpg"):
        pytest.skip("needs gpg: apt-get install gpg")
    home = tmp_path / "gnupg"
    home.mkdir(mode=0o700)
    gpg = ["gpg", "--homedir", str(home), "--batch", "--passphrase", "", "--quiet"]
    subprocess.run([*gpg, "--quick-gen-key", "a@example.org"], check=True, capture_output=True)
    text = f"-- made today\nSHA256 ({NAME}) = {S256}\n"
    done = subprocess.run([*gpg, "--clearsign"], input=text, text=True, capture_output=True)
    subprocess.run(["gpgconf", "--homedir", str(home), "--kill", "all"], check=False)
    assert done.stdout.startswith("-----BEGIN PGP SIGNED"), done.stderr
    assert find_digest(done.stdout, SUMS, URL) == Digest("sha256", S256)
