"""Verbs that only show: validate, render, schema, status, inventory, ssh-config, doctor. And init,
which writes the starter spec."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path
from typing import Annotated

from virtkit import api
from virtkit.cli import output, output_hosts
from virtkit.cli.arguments import DEFAULT_SPEC, Json, OnlySpec, SpecAndGuests
from virtkit.cli.parser import Option, flag
from virtkit.errors import RequestError, from_os_error
from virtkit.spec.files import STDIN


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
    file: Annotated[
        str,
        Option("-f", "--file", metavar="SPEC", help="The file to write (default: %(default)s)."),
    ] = DEFAULT_SPEC,
    force: Annotated[bool, flag("--force", help="Overwrite the one that is there.")] = False,
    domain: Annotated[
        str | None,
        Option(
            "--from-domain",
            metavar="NAME",
            help="Describe this libvirt domain, which is only read; never overwrites a file.",
        ),
    ] = None,
    connect: Annotated[
        str | None,
        Option(
            "--connect", metavar="URI", help="The domain's libvirt (default: all of this machine)."
        ),
    ] = None,
) -> None:
    """Write a commented starter spec into this folder, or one that describes a libvirt domain."""
    if domain is None and connect is not None:
        raise RequestError("--connect names no domain", cure="add --from-domain NAME")
    if domain is not None and force:
        raise RequestError(
            "a domain's spec is never written over a file",
            cure="leave out --force, and name another file: -f SPEC",
        )
    path = Path(file)
    if file != STDIN and (path.exists() or path.is_symlink()) and not force:
        cure = "edit it, or use --force" if domain is None else "name another file: -f SPEC"
        raise RequestError(f"there is a {path} already", cure=cure)
    text = api.starter() if domain is None else api.describe_domain(domain, connect or "")
    if file == STDIN:
        sys.stdout.write(text)
        return
    _write(path, text, over=force)
    named = "" if file == DEFAULT_SPEC else f" {shlex.quote(file)}"
    output.line(f"wrote {path}; next: virtkit {'up' if domain is None else 'plan'}{named}")


def _write(path: Path, text: str, *, over: bool) -> None:
    """Writes a file; one that somebody else made meanwhile stays."""
    try:
        with path.open("w" if over else "x", encoding="utf-8") as written:
            written.write(text)
    except FileExistsError as error:
        cure = "name another file: -f SPEC"
        raise RequestError(f"there is a {path} already", cure=cure) from error
    except OSError as error:
        raise from_os_error(f"{path} can't be written", error).as_type(RequestError) from error


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
