"""Every key of a guest that runs, changed and changed back: it costs what `plan` said, the guest
has what it was to have, and nothing drifts afterwards. The data is in key_cases.py.

What costs the same is changed at once, so that it needs one restart; each key is looked at.
"""

from __future__ import annotations

import subprocess
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import pytest
from integration.edits import Edits, digest, document, early, editing, lives, why
from integration.key_cases import (
    CASES,
    FILES,
    HOST_DISKS,
    NAME,
    PORTS,
    SPEC,
    VM,
    Case,
    changed,
)
from integration.lab import POOL, domains, run, tiny_disk, virsh

from virtkit.drivers.effects import Effect

#: What is changed at once: guests, and what it costs. What a container's system makes of changes
#: CI sees in test_live_changes.py, test_folders.py, test_guest_files.py and test_login_keys.py.
GROUPS = [
    pytest.param(guests, effect, marks=marks, id=f"{effect}-{guests[0]}")
    for guests, effect, marks in (
        (("tiny",), "none", ()),
        (("box",), "none", pytest.mark.long),
        (("tiny",), "live", ()),
        (("box",), "live", pytest.mark.long),
        (("vm",), "live", pytest.mark.long),
        (("tiny", "disks", "boots"), "restart", ()),
        (("box",), "restart", pytest.mark.long),
        (("tiny", "disks", "boots"), "recreate", ()),
        (("box",), "recreate", pytest.mark.long),
    )
]
#: The one that may have nothing that hears that it is to shut down.
DEAF = "boots"
#: A reason's field, and the guest.
Named = tuple[str, str]


@pytest.fixture(scope="module")
def edits(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Edits]:
    folder = tmp_path_factory.mktemp(NAME)
    for name, content in FILES.items():
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_bytes(content)
    run("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", folder / "id")
    host_disks = Path(HOST_DISKS)
    host_disks.mkdir(mode=0o755)
    for name in ("there", "elsewhere", "read", "common"):
        (host_disks / name).write_bytes(tiny_disk())
    run("qemu-img", "create", "-f", "qcow2", host_disks / "packed", "1M")
    (folder / "ports.xml").write_text(PORTS)
    virsh("net-create", folder / "ports.xml")
    try:
        with editing(folder, early(request, SPEC, "box"), EVERYKEY_PASSWORD="a word") as edits:
            yield edits
    finally:
        virsh("net-destroy", "portgroups")


@pytest.mark.parametrize(("guests", "effect"), GROUPS)
def test_a_change_costs_what_plan_said(edits: Edits, guests: Sequence[str], effect: Effect) -> None:
    for guest in guests:
        edits.first["guests"].setdefault(guest, VM)
    edits.reset()
    edits.up("--yes", "--restart")
    cases = [each for each in CASES if each.guest in guests and each.group == effect]
    for guest in guests:
        own = [each for each in cases if each.guest == guest]
        edits.spec["guests"][guest] = changed(edits.first["guests"][guest], own)
    assert having(edits, cases) == set()
    edits.write()
    for each in cases:
        if each.stays:
            first = edits.first["guests"]
            first[each.guest] = changed(first[each.guest], [each])
    carried_out(edits, cases)

    edits.reset()
    carried_out(edits, cases, back=True)


def carried_out(edits: Edits, cases: Sequence[Case], *, back: bool = False) -> None:
    """Changes guests to what the spec says by now, the way that `plan` says that it goes."""
    effects = planned(edits)
    assert effects == expected(cases, back)
    there = {(each.guest, each.reason): each for each in cases if seen(each)}
    stay = {name for name, each in there.items() if each.stays}
    before = runs(cases)
    documents = {each: digest(f"{NAME}-{each}") for each in before}
    if "recreate" in effects.values():
        edits.refused(*(f"all on the root disk of {each}" for each in before))
    edits.up("--yes")
    if {*effects.values()} == {"none"}:
        assert {each: digest(f"{NAME}-{each}") for each in before} == documents
    waiting = {name for name, effect in effects.items() if effect == "restart"}
    if "recreate" in effects.values():
        assert all(life != before[guest] for guest, life in runs(cases).items())
    else:
        assert runs(cases) == before, "they are the same runs"
    late = {name for name in waiting & there.keys() if not there[name].early}
    now = late | stay if back else there.keys() - late
    assert having(edits, cases) == now
    if waiting:
        waits(edits, waiting)
        restarted(edits, {guest for guest, _ in waiting})
        assert having(edits, cases) == (stay if back else there.keys())
    assert edits.plan() == {}
    assert edits.pending() == {}
    assert [edits.lab.status(each)["pending"] for each in before] == [[] for _ in before]


def expected(cases: Iterable[Case], back: bool) -> dict[Named, Effect]:
    """What `plan` is to say of the changes."""
    answer: dict[Named, Effect] = {}
    for each in cases:
        if each.effect is not None and not (back and each.stays):
            answer[each.guest, each.reason] = each.effect
        if back:
            answer |= {(each.guest, name): effect for name, effect in each.back.items()}
    return answer


def planned(edits: Edits) -> dict[Named, Effect]:
    """What `plan` says that each change costs, all of them changes of the spec."""
    changes = {name: why(each) for name, each in edits.plan().items() if name.startswith("guest/")}
    assert {cause for each in changes.values() for cause, _ in each.values()} == {"spec"}
    return {
        (name.removeprefix("guest/"), field): effect
        for name, each in changes.items()
        for field, (_, effect) in each.items()
    }


def waits(edits: Edits, waiting: set[Named]) -> None:
    """`plan` and `status` tell of all that waits for a restart; raw devices by their place."""
    pending = edits.pending()
    guests = {guest for guest, _ in waiting}
    assert pending.keys() == {f"guest/{each}" for each in guests}
    assert {each["effect"] for each in pending.values()} == {"restart"}
    for guest in guests:
        names = {field for other, field in waiting if other == guest}
        for told in (why(pending[f"guest/{guest}"]), edits.lab.status(guest)["pending"]):
            fields = {each.partition("/")[0] for each in told}
            # what a template says is raw devices, too
            assert fields | {"template"} >= names
            assert fields - names <= {"devices"}


def restarted(edits: Edits, guests: set[str]) -> None:
    """Restarts the guests, and no others."""
    every = [name for name in domains() if name.startswith(f"{NAME}-")]
    before = {each: lives(each) for each in every}
    if DEAF in guests:
        edits.lab.virtkit("restart", DEAF, "--timeout", "0")
    edits.up("--restart")
    after = {each for each in every if lives(each) != before[each]}
    assert after == {f"{NAME}-{each}" for each in guests}


# --- what guests have ----------------------------------------------------------------------------


def runs(cases: Iterable[Case]) -> dict[str, tuple[str, str]]:
    """The runs that the cases' guests are in."""
    return {guest: lives(f"{NAME}-{guest}") for guest in {each.guest for each in cases}}


def seen(case: Case) -> bool:
    """Whether a change can be seen at all."""
    return bool(case.xml or case.inside or case.host)


def having(edits: Edits, cases: Sequence[Case]) -> set[Named]:
    """The changes that their guests have, of those that can be seen."""
    answer: set[Named] = set()
    for guest in {each.guest for each in cases}:
        own = [each for each in cases if each.guest == guest and seen(each)]
        answer |= {(guest, each.reason) for each in has(edits, guest, own)}
    return answer


def has(edits: Edits, guest: str, cases: Iterable[Case]) -> list[Case]:
    """The changes that one guest has, in all ways in which they are seen."""
    domain, xml = f"{NAME}-{guest}", document(f"{NAME}-{guest}")
    here = [each for each in cases if not each.xml or xml.xpath(f"boolean({each.xml})")]
    places = {"folder": edits.lab.folder, "volume": POOL / domain, "uri": domains()[domain]}
    scripts = [each.host.format(domain=domain, **places) for each in here]
    there = [each for each, script in zip(here, scripts, strict=True) if holds(script)]
    line = "; ".join(
        f"if ( {each.inside} ) >/dev/null 2>&1; then echo {number}; fi"
        for number, each in enumerate(there)
        if each.inside
    )
    numbers = set(edits.lab.sh(guest, line).split()) if line else set()
    return [e for number, e in enumerate(there) if not e.inside or str(number) in numbers]


def holds(script: str) -> bool:
    """Whether a script ends with 0 on this machine."""
    return subprocess.run(["sh", "-c", script], capture_output=True, check=False).returncode == 0
