"""The verbs about machines: ``virtkit host …``."""

from __future__ import annotations

import sys
from getpass import getpass
from typing import Annotated

from virtkit import api
from virtkit.cli import output, progress
from virtkit.cli.arguments import File, Json, is_spec, spec_of
from virtkit.cli.parser import Option, Words, flag
from virtkit.errors import RequestError


def host_prepare(
    *,
    words: Annotated[list[str], Words("[SPEC] HOST")],
    file: File = None,
    types: Annotated[
        str,
        Option(
            "--types",
            metavar="TYPE,…",
            help=f"Guests that it is to run: {', '.join(api.HOST_TYPES)}. Default: all but xen.",
        ),
    ] = "",
    ask: Annotated[
        bool, flag("-K", "--ask-become-pass", help="Ask for sudo's password at once.")
    ] = False,
    json: Json = False,
) -> None:
    """Make a machine a libvirt host, by Ansible: a host of the spec, an address as for ssh, or
    `local`. Run again it changes nothing."""
    rest, spec = words, None
    if file is not None or (rest and is_spec(rest[0])):
        spec, rest = spec_of(rest, file)
    if len(rest) != 1:
        what = "more than one host is named" if rest else "no host is named"
        raise RequestError(what, cure="virtkit host prepare [SPEC] HOST; `local` is this machine")
    machine = api.find_machine(rest[0], spec)
    password = _password(machine) if ask or machine.needs_password else ""
    wanted = [each.strip() for each in types.split(",") if each.strip()]
    with progress.shown(output.err(), f"{machine.name}: prepare") as tell:
        done = api.prepare_host(machine, wanted, password=password, tell=tell)
    if json:
        output.data(done.as_dict())
    else:
        output.report(done.report, f"prepared, {done.changed or 'nothing'} changed")
    if done.report.interrupted:
        raise SystemExit(130)
    if not done.report.ok:
        raise SystemExit(1)


def _password(machine: api.Machine) -> str:
    """The password that sudo asks for, from a terminal; it goes nowhere but to Ansible."""
    where = "this machine" if machine.remote is None else machine.name
    if not (sys.stdin.isatty() and sys.stderr.isatty()):
        raise RequestError(
            f"sudo asks for a password on {where}, and there is no terminal here",
            cure=f"run it on a terminal (virtkit host prepare {machine.name}), as root, or let "
            "sudo ask for none",
        )
    while True:
        try:
            password = getpass(f"sudo's password on {where}: ")
        except EOFError as end:
            raise KeyboardInterrupt from end
        if password:
            return password
