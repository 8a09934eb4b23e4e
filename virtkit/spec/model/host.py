"""A machine with libvirt, as a spec describes it."""

from __future__ import annotations

from typing import Annotated

from pydantic import AfterValidator, Field, StrictInt

from virtkit.spec import values
from virtkit.spec.model.base import ForeignName, HostPath, Label, Line, Model, SshAddress


class Ssh(Model):
    """How ssh gets to a host, beyond what its own settings say."""

    port: StrictInt | None = Field(default=None, ge=1, le=65535, description="Its port.")
    key: HostPath | None = Field(
        default=None, description="The private key, from the spec's folder."
    )
    known_hosts: HostPath | None = Field(
        default=None, description="The file with the host's own key, from the spec's folder."
    )


def _uris(uris: dict[str, str]) -> dict[str, str]:
    for scheme, uri in uris.items():
        values.libvirt_uri(scheme, uri)
    return uris


Uris = Annotated[dict[str, str], AfterValidator(_uris)]


class HostSpec(Model):
    """A machine with libvirt: ``local`` is this one, another one has an address."""

    address: SshAddress | None = Field(default=None, description="As for ssh: `root@rack1`.")
    ssh: Ssh = Field(default=Ssh.model_construct(), description="How ssh gets there.")
    uris: Uris = Field(
        default_factory=dict,
        description="libvirt's URI, by driver (qemu, lxc, xen); the others are reached over ssh.",
    )
    labels: dict[Label, Line] = Field(
        default_factory=dict, description="What `place: {spread: …}` looks at, such as {zone: a}."
    )
    pool: ForeignName = Field(
        default="default", description="The libvirt storage pool for this host's volumes."
    )
