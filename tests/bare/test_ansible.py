"""From a bare Debian 12 to guests by playbooks alone, and again: nothing to change.

    .venv/bin/python -m pytest tests/bare/test_ansible.py     (five minutes)

Not in the sandbox, and not in CI: tests/bare/run, which makes the machine, reaches the machine's
own sources for packages. What a machine without systemd starts by hand is scripts/libvirt's.
"""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest

pytestmark = [pytest.mark.timeout(1800), pytest.mark.long]

#: virtkit by pip, as docs/ansible.md says, and what pip builds it with.
JOURNEY = """
set -eu
export DEBIAN_FRONTEND=noninteractive
cd "$HOME/virtkit"
apt-get -q update
apt-get -q -y install --no-install-recommends gcc libvirt-dev pkg-config python3-dev python3-venv
python3 -m venv ~/venv
PATH=~/venv/bin:$PATH
pip -q install '.[ansible]'
ansible-playbook playbooks/host.yml
scripts/libvirt start
ansible-playbook playbooks/up.yml -e spec=examples/hello.yaml
ansible-playbook playbooks/host.yml
ansible-playbook playbooks/up.yml -e spec=examples/hello.yaml
ansible -i examples/inventory.virtkit.yml --playbook-dir playbooks all -m ping
ansible-playbook playbooks/down.yml -e spec=examples/hello.yaml
echo "left:" $(for each in qemu lxc; do virsh -q -c $each:///system list --all --name; done)
"""
RECAP = re.compile(r"^localhost +: ok=\d+ +changed=(\d+) +unreachable=0 +failed=0 ", re.MULTILINE)


def test_a_bare_machine_by_playbooks() -> None:
    done = subprocess.run(
        [Path(__file__).with_name("run"), "--", "/bin/sh", "-c", JOURNEY],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    print(done.stdout)
    assert done.returncode == 0, done.stdout[-5000:]
    host, up, again, up_again, down = (int(each) for each in RECAP.findall(done.stdout))
    assert (host > 0, up, again, up_again, down) == (True, 1, 0, 0, 1)
    assert done.stdout.count('"ping": "pong"') == 2
    assert done.stdout.rstrip().endswith("left:")
