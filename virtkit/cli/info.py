"""Verbs that only show: validate, render, schema, status, inventory, ssh-config, doctor. And init,
which writes the starter spec."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

from virtkit import api
from virtkit.cli import output, output_hosts
from virtkit.cli.arguments import DEFAULT_SPEC, Json, OnlySpec, SpecAndGuests
from virtkit.cli.parser import Option, flag
from virtkit.errors import RequestError


def validate(*, chosen: OnlySpec, json: Json = False) -> None:
    """Read and check the spec; touches nothing."""
    spec = chosen.read()
    spec.check_references()
    if json:
        guests = {name: each.requested for name, each in spec.guests.items()}
        output.data({"environment": spec.name, "valid": True, "guests": guests})
    else:
        count = len(spec.guests)
        said = f"{spec.source}: valid, {count} guest{'' if count == 1 else 's'}"
        output.line(said)


def render(
    *,
    chosen: SpecAndGuests,
    record: Annotated[
        bool, flag("--record", help="Include the record that virtkit keeps in <metadata>.")
    ] = False,
    json: Json = False,
) -> None:
    """Print the libvirt XML that would be defined."""
    spec, guests = chosen.read()
    answer = api.render_xml(spec, guests, with_record=record, say=output.say)
    if json:
        document = {"environment": spec.name, "documents": answer.value}
        output.answer(document, answer.unanswered)
    else:
        sys.stdout.write("\n".join(answer.value))
    output.end(answer.unanswered)


def schema(*, json: Json = False) -> None:
    """Print the spec's JSON Schema, for editors."""
    output.data(api.schema())


def init(
    force: Annotated[bool, flag("--force", help="Overwrite the one that is there.")] = False,
) -> None:
    """Write a commented starter spec into this folder."""
    path = Path(DEFAULT_SPEC)
    if path.exists() and not force:
        raise RequestError(f"there is a {path} already", cure="edit it, or use --force")
    path.write_text(api.starter())
    output.line(f"wrote {path}; next: virtkit up")


def status(
    *,
    chosen: SpecAndGuests,
    hosts: Annotated[
        bool, flag("--hosts", help="Show each host's load, guests and free room, too.")
    ] = False,
    json: Json = False,
) -> None:
    """Show the guests: type, state, addresses, readiness; without a spec, all of virtkit's."""
    spec, guests = chosen.read() if chosen.given else (None, [])
    answer = api.status(spec, guests, say=output.say)
    rooms = api.host_status(spec, types=False, say=output.say) if hosts else None
    if json:
        name = spec.name if spec else None
        document = {"environment": name, "guests": [each.as_dict() for each in answer]}
        if rooms is not None:
            document["hosts"] = [each.as_dict() for each in rooms]
        output.data(document)
        return
    output.status(answer, environments=spec is None)
    if rooms is not None:
        output.line("")
        output_hosts.table(rooms)


def inventory(
    *,
    chosen: OnlySpec,
    everything: Annotated[bool, flag("--list", help="Ansible's script protocol.")] = False,
    host: Annotated[str | None, Option("--host", help="One guest's variables.")] = None,
    hypervisor: Annotated[
        bool,
        flag("--hypervisor", help="Through the hypervisor, where it has a way in, instead of ssh."),
    ] = False,
    json: Json = False,
) -> None:
    """Print an Ansible inventory: a file for ansible -i as it is."""
    guests = api.inventory(chosen.read(), hypervisor=hypervisor, say=output.say)
    if host is not None:
        output.data(guests.variables(host))
    elif everything or json:
        output.data(guests.script())
    else:
        sys.stdout.write(guests.static())
        for group, name in guests.renamed_groups.items():
            output.say(f"group {group} is {name} here: Ansible takes no - in a group's name")
        output.end(guests.unanswered)
        return
    output.unanswered(guests.unanswered)  # Ansible drops all that a failed script answered


def ssh_config(*, chosen: SpecAndGuests, json: Json = False) -> None:
    """Print a file for ssh, editors and rsync, to be included at the top of ~/.ssh/config:

    virtkit ssh-config SPEC >~/.ssh/virtkit-lab, then `Include ~/.ssh/virtkit-lab` there."""
    spec, guests = chosen.read()
    answer = api.ssh_config(spec, guests, say=output.say)
    if json:
        output.answer({"environment": spec.name, "ssh_config": answer.value}, answer.unanswered)
    else:
        sys.stdout.write(answer.value)
    output.end(answer.unanswered)


def doctor(
    *,
    chosen: OnlySpec,
    orphans: Annotated[
        bool, flag("--orphans", help="Show what belongs to no spec; deletes nothing.")
    ] = False,
    json: Json = False,
) -> None:
    """Show what this machine can run, what is missing, and the command that fixes it."""
    spec = chosen.read() if chosen.given else None
    if orphans:
        answer = api.orphans(spec)
        if json:
            document = {"orphans": [each.as_dict() for each in answer.value]}
            output.answer(document, answer.unanswered)
        else:
            output.orphans(answer)
        output.end(answer.unanswered)
        return
    checks = api.doctor(spec, say=output.say)
    if json:
        output.data({"checks": [each.as_dict() for each in checks]})
    else:
        output.checks(checks)
    if any(each.ok is False and each.needed for each in checks):
        raise SystemExit(2)
