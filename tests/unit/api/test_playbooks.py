"""When a guest's playbooks run again: as their files change, and not as these move."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import samples

from virtkit import ansible
from virtkit.api._playbooks import with_playbooks
from virtkit.plan import environment
from virtkit.state.desired import Desired, Playbooks
from virtkit.state.observed import Observed
from virtkit.state.record import Cause, Provisioned

SPEC = "name: lab\nguests:\n  web: {type: lxc, playbooks: [site.yml, ../shared/more.yml]}\n"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """The spec's folder, and beside it one with a playbook that it names, too."""
    for name, text in {
        "site.yml": "- hosts: all\n  tasks: [{script: run.sh}]\n",
        "run.sh": "true\n",
        "roles/r/tasks/main.yml": "[]\n",
        "../shared/more.yml": "- hosts: all\n  roles: [s]\n",
        "../shared/roles/s/tasks/main.yml": "[]\n",
    }.items():
        path = tmp_path / "first" / "lab" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return tmp_path / "first" / "lab"


def desired_in(folder: Path, observed: Observed | None = None) -> Desired:
    spec = samples.spec_of(SPEC, folder=str(folder))
    decided = samples.decided(spec, observed) if observed else None
    return with_playbooks(samples.desired_of(SPEC, decided=decided), spec, None)


def playbooks_in(folder: Path) -> Playbooks:
    (guest,) = desired_in(folder).guests
    assert guest.playbooks is not None
    return guest.playbooks


def provisioned(folder: Path, digest: str) -> Observed:
    """libvirt, with the guest up and given its playbooks."""
    desired = desired_in(folder)
    given = Provisioned(playbooks_in(folder).names, digest, "ok")
    return samples.up(
        desired, f"{folder}/lab.yaml", {"guests": {"web": {"record": {"provisioned": given}}}}
    )


def changes(folder: Path, observed: Observed) -> list[tuple[str, Cause]]:
    desired = desired_in(folder, observed)
    plan = environment.diff(desired, observed, spec_path=f"{folder}/lab.yaml")
    return [(reason.field, reason.cause) for each in plan.changes for reason in each.reasons]


def moved(folder: Path) -> Path:
    """All of it, in another place, in which names sort otherwise."""
    new = folder.parent.with_name("another")
    shutil.copytree(folder.parent, new)
    shutil.rmtree(folder.parent)
    return new / "lab"


def test_a_moved_folder_runs_nothing_again(folder: Path) -> None:
    observed = provisioned(folder, playbooks_in(folder).digest)
    assert changes(folder, observed) == []
    new = moved(folder)
    assert changes(new, observed) == []
    (new / "run.sh").write_text("false\n")
    assert changes(new, observed) == [("playbooks", "spec")]


def test_what_an_older_version_ran_is_not_run_again(folder: Path) -> None:
    assert changes(folder, provisioned(folder, playbooks_in(folder).former_digest)) == []


def test_an_older_versions_digest_has_the_files_paths(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As such a version wrote it, for these three files."""
    for name, text in {
        "site.yml": "- hosts: all\n  tasks: [{script: run.sh}]\n",
        "run.sh": "true\n",
        "roles/r/main.yml": "[]\n",
    }.items():
        path = tmp_path / "lab" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    monkeypatch.chdir(tmp_path)
    former = "18065e41831968ed438633c63a01a8ae0305c7777773833334b29f81ea65f23c"
    assert ansible.digests([Path("lab/site.yml")], Path("lab"))[1] == former


def test_what_failed_is_run_again_wherever_it_is(folder: Path) -> None:
    observed = provisioned(folder, playbooks_in(folder).digest)
    (guest,) = observed.guests.values()
    assert guest.record.provisioned is not None
    failed = replace(guest.record, provisioned=replace(guest.record.provisioned, ended="failed"))
    observed = replace(observed, guests={guest.domain: replace(guest, record=failed)})
    assert changes(moved(folder), observed) == [("playbooks", "unfinished")]
