"""`init --from-domain` on libvirt's own test driver, which parses domains as all drivers do: those
of tests/domains, and how it goes wrong."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import libvirt
import pytest
from lxml import etree

from virtkit import api
from virtkit.errors import RequestError
from virtkit.host.connection import Connections
from virtkit.spec import load

DOMAINS = sorted((Path(__file__).parents[1] / "domains").glob("*.xml"))
NODE = """<node>
  <cpu><mhz>2000</mhz><model>any</model><active>6</active><nodes>1</nodes><sockets>1</sockets>
    <cores>3</cores><threads>2</threads></cpu>
  <memory>8388608</memory>
  <pool type='dir'><name>default</name><target><path>/pool/</path></target>
    <volume type='file'><name>data.img</name><capacity unit='GiB'>3</capacity>
      <target><path>/pool/data.img</path></target></volume></pool>
  {}
</node>
"""


def node(tmp_path: Path, *domains: str) -> str:
    """The URI of a test driver with these domains."""
    path = tmp_path / "node.xml"
    path.write_text(NODE.format("\n".join(domains)))
    return f"test://{path}"


def virtkit(*words: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    line = [sys.executable, "-m", "virtkit", *words]
    env = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
    return subprocess.run(line, cwd=cwd, env=env, capture_output=True, text=True, check=False)


@pytest.mark.parametrize("path", DOMAINS, ids=lambda path: path.stem)
def test_what_libvirt_makes_of_it_has_a_spec(path: Path, tmp_path: Path) -> None:
    root = etree.parse(path).getroot()
    if root.find("devices/emulator") is not None:
        root.find("devices").remove(root.find("devices/emulator"))
    uri = node(tmp_path, etree.tostring(root, encoding="unicode"))
    name = root.findtext("name") or ""
    written = tmp_path / "virtkit.yaml"
    written.write_text(api.describe_domain(name, uri))
    spec = load(written)
    spec.check_references()
    (guest,) = spec.guests.values()
    kind = {("kvm", "hvm"): "kvm", ("qemu", "hvm"): "qemu", ("lxc", "exe"): "lxc"}
    os_type = root.findtext("os/type")
    assert guest.type == kind.get((root.get("type"), os_type), guest.type)
    macs = {each.mac for each in guest.networks or ()}
    assert macs <= {str(e.get("address")) for e in root.iterfind("devices/interface/mac")}


def test_libvirt_itself_refuses_whatever_would_change_something(tmp_path: Path) -> None:
    connections = Connections("local", {"test": node(tmp_path)}, read_only=True)
    with pytest.raises(libvirt.libvirtError) as caught:
        connections.get("test").defineXML("<domain type='test'><name>a</name></domain>")
    assert caught.value.get_error_code() == libvirt.VIR_ERR_OPERATION_DENIED


def test_a_file_is_written_once_and_what_is_said_is_so(tmp_path: Path) -> None:
    uri = node(
        tmp_path,
        "<domain type='test'><name>web</name><memory unit='MiB'>512</memory>"
        "<os><type>hvm</type></os><devices><disk type='file'><source file='/pool/data.img'/>"
        "<target dev='vda'/></disk></devices></domain>",
    )
    done = virtkit("init", "--from-domain", "web", "--connect", uri, cwd=tmp_path)
    assert (done.returncode, done.stdout) == (0, "wrote virtkit.yaml; next: virtkit plan\n"), done
    written = (tmp_path / "virtkit.yaml").read_text()
    assert "disk: {existing: /pool/data.img}" in written
    assert virtkit("validate", cwd=tmp_path).returncode == 0
    again = virtkit("init", "--from-domain", "web", "--connect", uri, cwd=tmp_path)
    assert (again.returncode, again.stdout) == (2, "")
    assert "cure: name another file: -f SPEC" in again.stderr
    forced = virtkit("init", "--force", "--from-domain", "web", "--connect", uri, cwd=tmp_path)
    assert forced.returncode == 2
    (tmp_path / "gone.yaml").symlink_to(tmp_path / "nowhere.yaml")
    linked = virtkit(
        "init", "-f", "gone.yaml", "--from-domain", "web", "--connect", uri, cwd=tmp_path
    )
    assert linked.returncode == 2
    assert not (tmp_path / "nowhere.yaml").exists()
    printed = virtkit("init", "-f", "-", "--from-domain", "web", "--connect", uri, cwd=tmp_path)
    assert (printed.returncode, printed.stdout) == (0, written)


def test_a_domain_that_is_not_there(tmp_path: Path) -> None:
    uri = node(
        tmp_path,
        "<domain type='test'><name>web</name><memory>1</memory><os><type>hvm</type></os></domain>",
    )
    with pytest.raises(RequestError, match="no domain 'wbe'") as caught:
        api.describe_domain("wbe", uri)
    assert caught.value.cure == "did you mean 'web'?"


def test_a_libvirt_that_is_not_there(tmp_path: Path) -> None:
    for uri in (f"test://{tmp_path}/none.xml", "nosuch:///system", "no uri at all"):
        done = virtkit("init", "--from-domain", "web", "--connect", uri, cwd=tmp_path)
        assert done.returncode in (1, 2), done
        assert "virtkit itself failed" not in done.stderr
        assert "cure: " in done.stderr
    assert not (tmp_path / "virtkit.yaml").exists()


def test_an_uri_without_a_domain(tmp_path: Path) -> None:
    done = virtkit("init", "--connect", "test:///default", cwd=tmp_path)
    assert (done.returncode, done.stdout) == (2, "")
    assert "add --from-domain NAME" in done.stderr
