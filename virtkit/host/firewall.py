"""The host's firewall, as far as libvirt's networks need it. Only root may look at its rules.

It must never change one: what the host lets through is its owner's business.
"""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import field
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

from virtkit._dataclass import dataclass
from virtkit.errors import VirtkitError
from virtkit.host.ssh import Remote, root_prefix
from virtkit.system import commands

#: libvirt's own chains (its iptables backend) and table (its nftables backend).
_CHAINS, _TABLE = "LIBVIRT_", "libvirt_network"
#: Chains of iptables and their hooks.
_HOOKS = {"INPUT": "input", "FORWARD": "forward"}
_UFW = Path("/etc/ufw/ufw.conf")


@dataclass(frozen=True)
class DroppingChain:
    """A chain that drops what none of its rules accepts. ``table`` with its family: ``inet x``."""

    table: str
    chain: str
    hook: str


@dataclass(frozen=True)
class Bridge:
    """The bridge of an active network for which libvirt makes rules.

    Attributes:
        forwards: its guests have a way out of the host (nat, routed).
        ipv6: it has an IPv6 subnet.
    """

    network: str
    name: str
    forwards: bool
    ipv6: bool = False


@dataclass
class Rules:
    """What a host's rules are about.

    Attributes:
        libvirt_tokens: the tokens of libvirt's own rules, names of bridges among them.
        drops: the chains on the way to this host, or through it, that drop by policy.
        tokens: the tokens of all rules, by table.
    """

    libvirt_tokens: set[str] = field(default_factory=set)
    drops: set[DroppingChain] = field(default_factory=set)
    tokens: dict[str, set[str]] = field(default_factory=dict)

    def has_libvirt_rules(self, bridge: str) -> bool:
        """Whether libvirt's own rules for a bridge are there."""
        return bridge in self.libvirt_tokens

    def dropping_chains(self, bridge: Bridge) -> list[DroppingChain]:
        """The chains that may drop what comes from a bridge: their table has no rule about it."""
        drops = (
            each
            for each in self.drops
            if (bridge.forwards or each.hook == "input")
            and (bridge.ipv6 or not each.table.startswith("ip6 "))
            and not _names_bridge(bridge.name, self.tokens.get(each.table, ()))
        )
        return sorted(drops, key=lambda each: (each.hook != "input", each.table, each.chain))

    def add(self, table: str, chain: str, tokens: Iterable[str]) -> None:
        """One more rule."""
        rule_tokens = set(tokens)
        self.tokens.setdefault(table, set()).update(rule_tokens)
        if chain.startswith(_CHAINS) or table.endswith(f" {_TABLE}"):
            self.libvirt_tokens |= rule_tokens


def _names_bridge(bridge: str, tokens: Iterable[str]) -> bool:
    """Whether one of the tokens of rules is a bridge's name, or a pattern (``virbr*``) for it."""
    return any(
        token == bridge or (token.endswith(("*", "+")) and fnmatch(bridge, f"{token[:-1]}*"))
        for token in tokens
    )


def rules(remote: Remote | None) -> Rules | None:
    """A host's rules; None where nobody may look."""
    try:
        root = root_prefix(remote)
    except VirtkitError:  # the host is gone, and whoever needs it finds out
        return None
    if root is None:
        return None
    nft = program_output(remote, [*root, "nft", "-j", "list", "ruleset"])
    iptables = program_output(remote, [*root, "iptables-save"])
    if nft is None and iptables is None:
        return None
    answer = Rules()
    add_nft(nft or "", answer)
    add_iptables(iptables or "", answer)
    return answer


def add_nft(text: str, rules: Rules) -> None:
    """Adds what ``nft -j list ruleset`` said."""
    entries: list[Mapping[str, Any]] = json.loads(text)["nftables"] if text else []
    for entry in entries:
        for kind, each in entry.items():
            table = f"{each.get('family')} {each.get('table')}"
            if kind == "rule":
                rules.add(table, each["chain"], _strings(each.get("expr")))
            elif kind in ("set", "map"):  # names of bridges may stand in one
                rules.add(table, "", _strings(each.get("elem")))
            elif kind == "chain" and _drops(each):
                rules.drops.add(DroppingChain(table, each["name"], each["hook"]))


def _drops(chain: Mapping[str, Any]) -> bool:
    """Whether a chain on the way to this host, or through it, drops by policy."""
    return chain.get("hook") in _HOOKS.values() and chain.get("policy") == "drop"


def _strings(value: object) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, Mapping):
        for each in value.values():
            yield from _strings(each)
    elif isinstance(value, list):
        for each in value:
            yield from _strings(each)


def add_iptables(text: str, rules: Rules) -> None:
    """Adds what ``iptables-save`` said; its tables are nftables' of the same names, or older."""
    table = ""
    for line in text.splitlines():
        words = line.split()
        if line.startswith("*"):
            table = f"ip {line[1:]}"
        elif line.startswith(":") and words[1] == "DROP" and words[0][1:] in _HOOKS:
            rules.drops.add(DroppingChain(table, words[0][1:], _HOOKS[words[0][1:]]))
        elif line.startswith("-A "):
            rules.add(table, words[1], words[2:])


def program_output(remote: Remote | None, line: list[str]) -> str | None:
    """What a program of the host's prints; None where it is not there, or fails."""
    if remote is not None:
        try:
            printed = remote.run(f"PATH=$PATH:{commands.SYSTEM}; {shlex.join(line)}")
        except VirtkitError:
            return None
        return printed.decode("utf-8", "replace")
    if commands.find(line[0]) is None:
        return None
    done = commands.run(*line)
    return done.stdout if done.returncode == 0 else None


# --- what lets a network through --------------------------------------------------------------


def accept_commands(
    bridge: str, drops: Iterable[DroppingChain] | None, remote: Remote | None = None
) -> str:
    """The commands, for root's shell, that let a libvirt network through the host's firewall.

    Args:
        drops: the chains that drop; None where nobody could look which.
    """
    if remote is None and _ufw():
        return (
            f"ufw allow in on {bridge} to any port 67 proto udp && ufw allow in on {bridge} to any "
            f"port 53 && ufw route allow in on {bridge} && ufw route allow out on {bridge}"
        )
    if remote is None and program_output(None, ["systemctl", "is-active", "firewalld"]) is not None:
        return (
            f"firewall-cmd --permanent --zone=libvirt --change-interface={bridge} && "
            "firewall-cmd --reload"
        )
    chains = list(drops or (DroppingChain("inet filter", hook, hook) for hook in _HOOKS.values()))
    line = " && ".join(command for each in chains for command in _accepting(each, bridge))
    if drops is None:
        line += " (with the names of your own table and chains: nft list ruleset)"
    return f"{line}; and the same where your firewall has its rules from (/etc/nftables.conf)"


def _accepting(drop: DroppingChain, bridge: str) -> Iterator[str]:
    """The rules before all others of a chain that DHCP and DNS, or guests' traffic, needs."""
    if drop.table == "ip filter":
        start = f"iptables -I {drop.chain}"
        if drop.hook == "input":
            yield f"{start} -i {bridge} -p udp -m multiport --dports 53,67 -j ACCEPT"
            yield f"{start} -i {bridge} -p tcp --dport 53 -j ACCEPT"
        else:
            yield f"{start} -i {bridge} -j ACCEPT"
            yield f"{start} -o {bridge} -j ACCEPT"
        return
    start = f"nft insert rule {drop.table} {drop.chain}"
    if drop.hook == "input":
        yield f"{start} iifname {bridge} udp dport '{{ 53, 67, 547 }}' accept"
        yield f"{start} iifname {bridge} tcp dport 53 accept"
    else:
        yield f"{start} iifname {bridge} accept"
        yield f"{start} oifname {bridge} accept"


def _ufw() -> bool:
    try:
        return re.search(r"^\s*ENABLED=[\"']?yes", _UFW.read_text(), re.M) is not None
    except OSError:
        return False
