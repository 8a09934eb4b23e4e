"""A guest type of the test's: what a new one takes."""

from virtkit.drivers.base import Driver, connected

TOY = Driver(
    type="toy",
    virtualization="a toy (for tests)",
    scheme="test",
    domain_type="test",
    template="toy.xml.j2",
    root="backed",
    seed="iso9660",
    log="file",
    stop=("acpi",),
    exec=("ssh",),
    restart="reset",
    # libvirt's test driver plugs nothing into a running guest
    effects={"cpus": "live", "cpus.less": "restart", "networks": "restart"},
    unsupported={"graphics": "a toy has no display", "kernel": "a toy starts from its disk"},
    check=connected("test", "libvirt-daemon-system"),
)
