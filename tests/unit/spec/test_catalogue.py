"""The catalogue: its entries are whole and of one form. Nobody fetches them here."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from pydantic import ValidationError

from virtkit.drivers import DRIVERS
from virtkit.errors import SpecErrors
from virtkit.spec import CATALOGUE, Catalogue, Image, read_text

REPO = Path(__file__).parents[3]
MACHINES = ("x86_64", "aarch64")
KEYS = {"build", "url", "checksums", "arch", "version", "login", "firmware", "fetched", "note"}
EXPECTED = {
    *("debian-12", "debian-13", "ubuntu-22.04", "ubuntu-24.04", "almalinux-9", "almalinux-10"),
    *("rocky-9", "rocky-10", "centos-stream-9", "centos-stream-10", "opensuse-leap", "alpine"),
    *("arch", "cirros"),
}
SAID = tomllib.loads((REPO / "virtkit/spec/model/catalogue.toml").read_text())


def test_what_people_expect_is_there() -> None:
    assert {*SAID} >= EXPECTED
    assert sum(name.startswith("fedora-") for name in SAID) == 2


@pytest.mark.parametrize("name", SAID)
def test_an_entry(name: str) -> None:
    said = SAID[name]
    assert {*said} <= KEYS
    assert re.fullmatch(r"[a-z0-9][a-z0-9.-]*", name)
    assert ("build" in said) != ("url" in said)
    for machine in MACHINES:
        published = Catalogue(machine).entries[name]
        image = published.image
        if image is None:
            assert machine not in said["arch"]
            assert name not in Catalogue(machine)
            continue
        # what the model says of an image in a file
        given = image.model_dump(exclude_none=True, exclude={"build": {"size"}})
        assert Image.model_validate(given) == image
        assert image.kind in ("built", "disk")
        if image.kind == "disk":
            _check_addresses(image, machine, said)
            assert published.login
            assert {*published.firmware} <= {"bios", "uefi"}
            assert published.firmware


def _check_addresses(image: Image, machine: str, said: dict[str, object]) -> None:
    assert image.url is not None
    assert image.checksums is not None
    for each in (image.url, image.checksums):
        parts = urlsplit(each)
        assert parts.scheme == "https", "digests come from there, too, and no signature is checked"
        assert not parts.query
        assert "{" not in each
    assert image.url.rpartition("/")[0] == image.checksums.rpartition("/")[0], "beside each other"
    arch = said["arch"]
    assert isinstance(arch, dict)
    assert arch[machine] in image.url
    assert image.url.endswith((".img", ".qcow2"))


def test_no_two_are_the_same() -> None:
    for machine in MACHINES:
        urls = [each.url for each in Catalogue(machine).values() if each.url]
        assert len({*urls}) == len(urls)


def test_the_default_is_the_file_s() -> None:
    """It is known without reading that."""
    assert CATALOGUE["debian-12"] == CATALOGUE.entries["debian-12"].image
    assert "debian-12" in CATALOGUE


def test_a_spec_names_one_without_an_entry() -> None:
    spec = read_text(
        "name: lab\nguests: {web: {type: qemu, image: ubuntu-24.04}}\n",
        source="lab.yaml",
        folder=REPO,
    )
    assert spec.images == {"ubuntu-24.04": CATALOGUE["ubuntu-24.04"]}


def test_an_entry_of_the_spec_goes_before() -> None:
    text = "images: {alpine: {path: ./x}}\nguests: {web: {type: qemu, image: alpine}}\nname: lab\n"
    assert read_text(text, source="lab.yaml", folder=REPO).images["alpine"].path == "./x"


def refused(guest: str) -> list[str]:
    with pytest.raises(SpecErrors) as caught:
        read_text(f"name: lab\nguests: {{web: {guest}}}\n", source="lab.yaml", folder=REPO)
    return [f"{each.what}; {each.cure}" for each in caught.value.errors]


def test_types_that_it_does_not_serve() -> None:
    for name, driver in DRIVERS.items():
        if "disk" not in driver.images:
            (said,) = refused(f"{{type: {name}, image: ubuntu-24.04, networks: []}}")
            assert f"a guest of type {name} can't start from a disk image" in said
            assert "set `type: auto`" in said


def test_a_firmware_that_it_does_not_start_with() -> None:
    if "bios" in CATALOGUE.entries["alpine"].firmware:
        (said,) = refused("{type: qemu, image: alpine, firmware: uefi}")
        assert "'alpine' does not start with uefi" in said


def test_the_readme_says_what_nobody_has_fetched() -> None:
    fetched = sorted(name for name, each in CATALOGUE.entries.items() if each.fetched)
    text = " ".join((REPO / "README.md").read_text().split())
    names = " and ".join(f"`{name}`" for name in fetched)
    assert f"Nobody has fetched any of these from where virtkit is built, but for {names}" in text


def test_an_image_that_is_wrong_is_refused() -> None:
    with pytest.raises(ValidationError):
        Image.model_validate({"url": "ftp://example.org/x", "sha256": "0" * 64})


def test_the_readme_has_the_table_of_types() -> None:
    """As the drivers' own has it."""
    text = (REPO / "README.md").read_text()
    table = text.partition("<!-- images and types -->\n")[2].partition("<!-- end")[0]
    head, _, *rows = [[*map(str.strip, line.strip("|").split("|"))] for line in table.splitlines()]
    assert {*head[1:]} == {*DRIVERS}
    for kind, row in zip(("built", "disk", "rootfs"), rows, strict=True):
        serves = {name for name, said in zip(head[1:], row[1:], strict=True) if said == "yes"}
        assert serves == {name for name, each in DRIVERS.items() if kind in each.images}, kind
