"""What a plan needs, looked at before anything is touched: files, programs, valid XML."""

from __future__ import annotations

from pathlib import Path

from virtkit import access, ansible, images
from virtkit.api import _served_files
from virtkit.api._hosts import path_of
from virtkit.errors import RequestError, SpecErrors
from virtkit.host import Host, schemas
from virtkit.plan import Change, Plan
from virtkit.spec import Spec
from virtkit.state import record, record_text
from virtkit.state.desired import Guest, ImageRef, Network
from virtkit.system import commands
from virtkit.xml import render, tree, user_template


def object_xml(desired: Guest | Network, spec: Spec) -> str:
    """The XML of an object, checked against libvirt's schema where that is not older than it."""
    if isinstance(desired, Network):
        body = render.network_xml(desired)
        new = record.of_network(desired, path_of(spec), body)
        xml = tree.with_record(body, record_text.network_element(new))
        where = spec.where(("networks", desired.name))
        schemas.check("network", xml, f"network {desired.name}", where)
        return xml
    body = render.domain_xml(desired, user_template.rendered(desired))
    element = record_text.guest_element(record.of_guest(desired, path_of(spec), body))
    where = spec.where(("guests", desired.name))
    if len(element) > record_text.MAX_RECORD:
        raise RequestError(
            f"guest {desired.name}: its record would be larger than {record_text.MAX_RECORD} bytes",
            cure="make `devices` shorter, or move them into a template",
            where=where,
        )
    xml = tree.with_record(body, element)
    if desired.needs_libvirt <= schemas.version():  # else the host's own says whether it is right
        schemas.check("domain", xml, f"guest {desired.name}", where)
    return xml


def _file(guest: Guest, path: str, key: str = "kernel") -> Path:
    file = Path(guest.source_folder, Path(path).expanduser())
    if not file.is_file():
        raise RequestError(
            f"guest {guest.name}: there is no file {file}",
            cure="correct the path in the spec",
            where=guest.where(key),
        )
    return file


def check(plan: Plan, spec: Spec, host: Host) -> tuple[str, ...]:
    """Looks at all that a plan needs before anything is touched.

    Returns:
        what people should know of the images that will be made.

    Raises:
        SpecErrors: files or programs are missing or wrong, an image can't be built on this
            machine, or XML that libvirt's schema, or libvirt itself, does not allow.
    """
    errors: list[RequestError] = []
    notes: list[str] = []
    for change in plan.changes:
        if isinstance(change.desired, Guest) and _provisions(change):
            ansible.require()
        if change.action not in ("create", "replace", "update"):
            continue
        try:
            if isinstance(change.desired, Guest):
                _check_files(change.desired)
                _check_discs(change, change.desired)
                _check_programs(change.desired)
            if isinstance(change.desired, ImageRef):
                if steps := images.check(host, change.desired, spec.folder):
                    notes.append(f"{change.object}: on this machine it is {steps}")
            elif isinstance(change.desired, Network):
                _served_files.check(change.desired, spec)
                object_xml(change.desired, spec)
            elif isinstance(change.desired, Guest):
                host.domains.check(
                    change.desired.driver, object_xml(change.desired, spec), _at(change)
                )
        except SpecErrors as many:
            errors += many.errors
        except RequestError as error:
            errors.append(error)
    if errors:
        raise SpecErrors(errors)
    return tuple(notes)


def _provisions(change: Change) -> bool:
    """Whether a change runs playbooks."""
    assert isinstance(change.desired, Guest)
    new = change.action in ("create", "replace")
    named = any(each.field == "playbooks" for each in change.reasons)
    return change.desired.playbooks is not None and (new or named)


def _at(change: Change) -> str:
    """The object of a change, as an error's ``where``."""
    return f"{change.host} {change.object}"


def _check_programs(guest: Guest) -> None:
    """What makes and reads the guest's volumes."""
    if guest.driver.seed == "ext4":
        commands.require("mke2fs", "debugfs")
    if any(each.content == "ext4" for each in guest.volumes):
        commands.require("mke2fs")


def _check_files(guest: Guest) -> None:
    if guest.spec.ssh_keys is not None:
        access.key_files(guest.environment, guest.spec.ssh_keys, Path(guest.source_folder))
    if guest.spec.kernel is not None:
        images.check_boot(_file(guest, guest.spec.kernel.path), "kernel")
        if guest.spec.kernel.initrd:
            images.check_boot(_file(guest, guest.spec.kernel.initrd), "initrd")


def _check_discs(change: Change, guest: Guest) -> None:
    """The discs that are to be copied; of one that is in its drive nobody needs the file."""
    discs = any(each.field.startswith(("cdroms", "volume")) for each in change.reasons)
    if discs or change.action != "update":
        for path in guest.spec.cdroms:
            images.check_disc(_file(guest, path, "cdroms"), guest.where("cdroms"))
