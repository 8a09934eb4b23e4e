"""The spec of a libvirt domain that virtkit did not make."""

from __future__ import annotations

from virtkit.host.any_domain import read_domain
from virtkit.spec.from_domain.describe import describe


def describe_domain(name: str, uri: str = "") -> str:
    """The spec that describes a libvirt domain, as YAML; comments say what it can't say.

    libvirt is only read. The spec passes all checks of a spec.

    Args:
        name: the domain's name.
        uri: the URI of its libvirt; empty for all of this machine's drivers.

    Raises:
        RequestError: there is no domain of that name, or several.
        VirtkitError: libvirt does not answer.
    """
    return describe(read_domain(name, uri))
