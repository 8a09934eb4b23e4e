# Copyright: the virtkit maintainers
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
name: virtkit
short_description: The guests of a virtkit spec
version_added: 0.2.0
author: the virtkit maintainers (!UNKNOWN)
description:
  - Takes guests, groups and variables from C(virtkit inventory), so that both say the same.
  - The groups are those of the spec, and by what a guest is V(environment_NAME), V(type_NAME),
    V(model_NAME) and V(host_NAME). What Ansible takes in no group's name becomes C(_).
  - The variables are those of the spec, C(virtkit_environment), C(virtkit_guest), C(virtkit_type),
    C(virtkit_model), C(virtkit_host), C(virtkit_domain), C(virtkit_spec), and what leads Ansible
    to the guest. A variable of the spec wins.
  - Its source is a file whose name ends in C(virtkit.yml) or C(virtkit.yaml).
notes:
  - A host of the spec that does not answer is a warning. Its guests are listed as the spec has
    them where that gives them an C(address), and nothing is cached then.
  - What is cached holds the variables of the spec as they stand there. Encrypt secrets with
    C(ansible-vault), in the spec too.
extends_documentation_fragment:
  - constructed
  - inventory_cache
options:
  plugin:
    description: Names this plugin.
    type: str
    required: true
    choices: [virtkit.core.virtkit]
  spec:
    description: The path of the spec. A relative one is taken from the folder of the source.
    type: str
    default: virtkit.yaml
  hypervisor:
    description:
      - Get into guests through their hypervisor where it has a way in, as root, and by ssh
        elsewhere. Then guests need no network.
      - Needs the collection C(community.libvirt), and its Python needs C(libvirt-python).
        Containers with ids of their own are reached by P(virtkit.core.exec#connection), and take
        root.
    type: bool
    default: false
  executable:
    description:
      - The command virtkit. Left out, the one beside Ansible's Python, else the one in E(PATH),
        C(~/.local/bin) or C(/usr/local/bin).
    type: path
seealso:
  - module: virtkit.core.virtkit_environment
"""

EXAMPLES = r"""
---
# inventory.virtkit.yml
plugin: virtkit.core.virtkit
spec: lab.yaml
---
# groups and variables of one's own, and a cache
plugin: virtkit.core.virtkit
spec: lab.yaml
cache: true
groups:
  containers: virtkit_type == "lxc"
keyed_groups:
  - key: virtkit_host
    prefix: rack
compose:
  fqdn: inventory_hostname ~ ".lab.test"
---
# guests without a network
plugin: virtkit.core.virtkit
spec: lab.yaml
hypervisor: true
"""

import os
import subprocess

from ansible.errors import AnsibleParserError
from ansible.plugins.inventory import BaseInventoryPlugin, Cacheable, Constructable
from ansible_collections.virtkit.core.plugins.module_utils.virtkit import (
    NoCommand,
    as_text,
    find_command,
    parse_output,
)

try:
    from ansible.template import trust_as_template
except ImportError:  # before ansible-core 2.19, every variable may be a template

    def trust_as_template(text):
        return text


class InventoryModule(BaseInventoryPlugin, Constructable, Cacheable):
    NAME = "virtkit.core.virtkit"

    def verify_file(self, path):
        """Whether a source is this plugin's, by its name."""
        return super().verify_file(path) and path.endswith(("virtkit.yml", "virtkit.yaml"))

    def parse(self, inventory, loader, path, cache=True):
        """Fills the inventory from a source."""
        super().parse(inventory, loader, path, cache)
        self._read_config_data(path)
        listing = self.loader.load(trust_as_template(self._listing(path, cache)), json_only=True)
        for name, variables in listing["_meta"]["hostvars"].items():
            self.inventory.add_host(name)
            for key, value in variables.items():
                self.inventory.set_variable(name, key, value)
        for group, members in listing.items():
            if group not in ("_meta", "all", "ungrouped"):
                self.inventory.add_group(group)
                for each in members["hosts"]:
                    self.inventory.add_host(each, group=group)
        for name in listing["_meta"]["hostvars"]:
            self._construct(name)

    def _listing(self, path, cache):
        """What `virtkit inventory --list` answers, or answered while the cache holds it."""
        cached = self.get_option("cache")
        key = self.get_cache_key(path)
        if cached and cache:
            try:
                return self._cache[key]
            except KeyError:  # there is none, or it is too old
                pass
        text, whole = self._run_inventory(path)
        if cached and whole:
            self._cache[key] = text
        return text

    def _run_inventory(self, path):
        """What `virtkit inventory` answers, and whether all of the spec's hosts answered it."""
        folder = os.path.dirname(os.path.abspath(path))
        spec = os.path.join(folder, os.path.expanduser(self.get_option("spec")))
        try:
            command = find_command(self.get_option("executable"))
        except NoCommand as missing:
            raise AnsibleParserError(as_text([missing.error])) from missing
        line = [command, "inventory", "--json", "-f", spec]
        if self.get_option("hypervisor"):
            line.append("--hypervisor")
        done = subprocess.run(
            line,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            encoding="utf-8",
            errors="replace",
            check=False,
        )
        answer = parse_output(line, done.returncode, done.stdout, done.stderr)
        if "error" in answer:
            raise AnsibleParserError(as_text(answer["errors"]))
        for warning in done.stderr.splitlines():
            self.display.warning(warning)
        return done.stdout, "unanswered" not in answer["_meta"]

    def _construct(self, name):
        """A guest's variables and groups by the source's own rules."""
        strict = self.get_option("strict")
        variables = self.inventory.get_host(name).get_vars()
        self._set_composite_vars(self.get_option("compose"), variables, name, strict=strict)
        variables = self.inventory.get_host(name).get_vars()
        self._add_host_to_composed_groups(self.get_option("groups"), variables, name, strict=strict)
        self._add_host_to_keyed_groups(
            self.get_option("keyed_groups"), variables, name, strict=strict
        )
