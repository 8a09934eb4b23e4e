"""The verbs about machines: ``virtkit host …``."""

from __future__ import annotations

from getpass import getpass
from typing import Annotated

from virtkit import api
from virtkit.cli import output, output_hosts, progress, signals
from virtkit.cli.arguments import Json, SpecOptions
from virtkit.cli.parser import Option, Positionals, flag
from virtkit.errors import RequestError


def host_prepare(
    *,
    positionals: Annotated[list[str], Positionals("[SPEC] HOST")],
    options: SpecOptions,
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
    spec, rest = _spec_and_hosts(positionals, options)
    machine = api.probe_machine(
        _one_host(rest, "virtkit host prepare [SPEC] HOST; `local` is this machine"), spec
    )
    wanted = [each.strip() for each in types.split(",") if each.strip()]
    password = _password(machine, wanted) if ask or machine.needs_password else ""
    with progress.shown(output.err(), f"{machine.name}: prepare") as tell:
        done = api.prepare_host(machine, wanted, password=password, tell=tell)
    if json:
        output.data(done.as_dict())
    else:
        output.report(done.report, f"prepared, {done.changed or 'nothing'} changed")
    if done.report.interrupted:
        raise SystemExit(signals.INTERRUPTED)
    if not done.report.ok:
        raise SystemExit(1)


def _password(machine: api.PreparationTarget, types: list[str]) -> str:
    """The password that sudo asks for, from a terminal; it goes nowhere but to Ansible."""
    where = "this machine" if machine.remote is None else machine.name
    if not output.at_terminal():
        raise RequestError(
            f"sudo asks for a password on {where}, and there is no terminal here",
            cure=f"run it on a terminal ({machine.command(types)}), as root, or let sudo ask "
            "for none",
        )
    while True:
        try:
            password = getpass(f"sudo's password on {where}: ")
        except EOFError as end:
            raise KeyboardInterrupt from end
        if password:
            return password


def host_trust(
    *,
    positionals: Annotated[list[str], Positionals("[SPEC] HOST")],
    options: SpecOptions,
    fingerprint: Annotated[
        str,
        Option(
            "--fingerprint",
            metavar="SHA256:…",
            help="The fingerprint that the host's owner gave you; nothing is asked then.",
        ),
    ] = "",
    yes: Annotated[bool, flag("--yes", help="Accept whatever key the host presents.")] = False,
    json: Json = False,
) -> None:
    """Make a host's ssh key known: show its fingerprints, ask, and add it to the spec's known_hosts
    or to ssh's own. HOST is one of the spec, or an address as for ssh."""
    spec, rest = _spec_and_hosts(positionals, options)
    name = _one_host(rest, "virtkit host trust [SPEC] HOST")
    keys = api.find_host_keys(name, spec)
    keys.chosen(fingerprint)  # a wrong one is refused before anything is shown as good
    if not (json or keys.known):
        output.say(f"host {keys.host} ({keys.address}) has these keys:")
        for each in keys.keys:
            output.say(f"  {each}")
    if not (keys.known or fingerprint or yes or (not json and _agrees())):
        raise RequestError(
            f"nobody confirmed that the key is host {keys.host}'s own",
            why="what answers there has " + ", ".join(map(str, keys.keys)),
            cure="compare it with what its owner told you, or with ssh-keygen -lf "
            "/etc/ssh/ssh_host_ed25519_key.pub there; then --fingerprint SHA256:… or --yes",
            where=keys.host,
        )
    added = api.trust_host(keys, fingerprint)
    if json:
        output.data({**keys.as_dict(), "added": [each.fingerprint for each in added]})
    elif keys.known:
        output.line(f"host {keys.host}: its key is known already ({keys.file})")
    else:
        kinds = ", ".join(each.kind for each in added)
        output.line(f"host {keys.host}: added to {keys.file}: {kinds}")


def _agrees() -> bool:
    return output.ask("Is one of them the host's own, as its owner told you?")


def _spec_and_hosts(
    positionals: list[str], options: SpecOptions
) -> tuple[api.Spec | None, list[str]]:
    """The spec, where one is named, and the hosts after it."""
    if options.names_spec(positionals):
        return options.read(positionals)
    return None, positionals


def _one_host(hosts: list[str], usage: str) -> str:
    """The one host that is named.

    Raises:
        RequestError: none is, or more than one.
    """
    if len(hosts) != 1:
        what = "more than one host is named" if hosts else "no host is named"
        raise RequestError(what, cure=usage)
    return hosts[0]


def host_list(
    *,
    positionals: Annotated[list[str], Positionals("[SPEC] [HOST]...")],
    options: SpecOptions,
    json: Json = False,
) -> None:
    """List a spec's hosts, or this machine: what they can run, how much room they have. HOST as for
    `host check`."""
    spec, names = _spec_and_hosts(positionals, options)
    hosts = api.host_status(spec, names, say=output.say)
    if json:
        output.data({"hosts": [each.as_dict() for each in hosts]})
    else:
        output_hosts.table(hosts)


def host_check(
    *,
    positionals: Annotated[list[str], Positionals("[SPEC] [HOST]...")],
    options: SpecOptions,
    json: Json = False,
) -> None:
    """Look at hosts as doctor does, each on its own: all of a spec's, those that are named, or
    this machine. HOST is one of the spec, an address as for ssh, or `local`."""
    spec, names = _spec_and_hosts(positionals, options)
    hosts = api.check_hosts(spec, names, say=output.say)
    if json:
        output.data({"hosts": [each.as_dict() for each in hosts]})
    else:
        output_hosts.checks(hosts)
    if not all(each.usable for each in hosts):
        raise SystemExit(2)
