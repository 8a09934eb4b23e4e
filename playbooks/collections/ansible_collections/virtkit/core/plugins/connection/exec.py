# Copyright: the virtkit maintainers
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
name: exec
short_description: Run tasks in guests by C(virtkit exec)
version_added: 0.2.0
author: the virtkit maintainers (!UNKNOWN)
description:
  - Gets into a guest as C(virtkit exec) does, through its hypervisor where it can, as root.
  - The inventory plugin chooses it for containers with ids of their own. In these
    C(community.libvirt.libvirt_lxc) is nobody, and not root.
options:
  remote_addr:
    description: The guest's name in the spec.
    type: str
    default: inventory_hostname
    vars:
      - name: inventory_hostname
      - name: ansible_host
      - name: virtkit_guest
  spec:
    description: The path of the spec.
    type: path
    required: true
    vars:
      - name: virtkit_spec
  executable:
    description: The command virtkit. Left out, the one beside Ansible's Python, else the one in
      E(PATH).
    type: path
    vars:
      - name: virtkit_executable
"""

import re
import shlex
import subprocess

from ansible.errors import AnsibleConnectionFailure, AnsibleError
from ansible.plugins.connection import ConnectionBase
from ansible_collections.virtkit.core.plugins.module_utils.virtkit import (
    NoCommand,
    as_text,
    find_command,
)

#: As much as a guest agent takes at a time.
PIECE = 1024 * 1024
#: How virtkit itself tells that it didn't get in.
NOT_IN = re.compile(rb"^error: .*\n(?:  .*\n)*  cure: ", re.MULTILINE)


class Connection(ConnectionBase):
    """A guest, entered once for each command."""

    transport = "virtkit.core.exec"
    has_pipelining = True
    has_tty = False

    def _connect(self):
        self._connected = True
        return self

    def exec_command(self, cmd, in_data=None, sudoable=True):
        """Runs a line for the guest's shell; its exit code and output."""
        super().exec_command(cmd, in_data=in_data, sudoable=sudoable)
        return self._run(cmd, in_data or b"")

    def _run(self, command, given):
        try:
            program = find_command(self.get_option("executable"))
        except NoCommand as missing:
            raise AnsibleConnectionFailure(as_text([missing.error])) from missing
        guest = self.get_option("remote_addr")
        line = [program, "exec", "-f", self.get_option("spec"), guest, "--", "sh", "-c", command]
        done = subprocess.run(line, input=given, capture_output=True, check=False)
        if done.returncode in (1, 2, 255) and NOT_IN.search(done.stderr):
            raise AnsibleConnectionFailure(done.stderr.decode("utf-8", "replace").strip())
        return done.returncode, done.stdout, done.stderr

    def put_file(self, in_path, out_path):
        """Copies a file of this machine into the guest."""
        super().put_file(in_path, out_path)
        target = shlex.quote(out_path)
        with open(in_path, "rb") as source:
            self._must(f"cat >{target}", source.read(PIECE))
            while piece := source.read(PIECE):
                self._must(f"cat >>{target}", piece)

    def fetch_file(self, in_path, out_path):
        """Copies a file of the guest to this machine."""
        super().fetch_file(in_path, out_path)
        content = self._must(f"cat -- {shlex.quote(in_path)}", b"")
        with open(out_path, "wb") as target:
            target.write(content)

    def _must(self, command, given):
        code, out, err = self._run(command, given)
        if code:
            message = err.decode("utf-8", "replace").strip()
            raise AnsibleError(f"{command}: {message or code}")
        return out

    def close(self):
        self._connected = False
