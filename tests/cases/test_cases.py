"""Every folder beside this file is a case: a spec, a host and what stands there, to plan and XML.

spec.yaml      the spec
facts.json     the host (tests/samples.py says how)
before.yaml    the spec that was brought up before; nothing was where it is missing
observed.json  how what stands there differs from what `up` left
request.json   `only`: guests that were named; `down` and `volumes`; `restart`; `seed`: guests
expected/      what comes out, to be reviewed; `pytest --regen` writes it. The record of an object
               stands beside its XML, as JSON in lines
"""

from __future__ import annotations

import json
from collections import ChainMap
from pathlib import Path
from typing import Any, get_args

import pytest
import samples
import yaml
from lxml import etree

from virtkit import seed
from virtkit.drivers import DRIVERS
from virtkit.drivers.effects import ORDER
from virtkit.errors import RequestError, SpecErrors, VirtkitError
from virtkit.facts import HostFacts
from virtkit.host import schemas
from virtkit.plan import Action, Change, Plan, diff, down
from virtkit.plan.resolve import resolve
from virtkit.state import record, record_text
from virtkit.state.desired import Decided, Desired, Guest, Network
from virtkit.state.observed import Observed
from virtkit.state.record import Cause
from virtkit.xml import render, tree

HERE = Path(__file__).parent
NAMES = sorted(each.parent.name for each in HERE.glob("*/spec.yaml"))
SPEC = "/specs/lab.yaml"
EMPTY = "name: lab\n"


class Case:
    """One folder, read."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.request = self.data("request.json")
        self.spec = samples.spec_of(self.text("spec.yaml"))
        self.facts: HostFacts = samples.facts_of(self.data("facts.json"))
        before = resolve(samples.spec_of(self.text("before.yaml") or EMPTY), self.facts, Decided())
        self.observed = self.up(before, self.data("observed.json"))

    def up(self, desired: Desired, change: dict[str, Any] | None = None) -> Observed:
        """What stands there after `up`, rendered with the users' own templates."""
        change = change or {}
        guests: dict[str, Any] = change.get("guests", {})
        own = {name: {"template": text} for name, text in self.templates(desired).items()}
        both = {name: own.get(name, {}) | guests.get(name, {}) for name in {*own, *guests}}
        return samples.up(desired, SPEC, change | {"guests": both})

    def templates(self, desired: Desired) -> dict[str, str]:
        paths = {each.name: each.spec.template for each in desired.guests if each.spec.template}
        return {name: self.text(path) for name, path in paths.items()}

    def rendered(self, desired: Desired) -> dict[str, str]:
        """What the users' own templates make of their guests."""
        guests = {each.name: samples.with_image(each) for each in desired.guests}
        return {
            n: render.from_user_template(guests[n], text)
            for n, text in self.templates(desired).items()
        }

    def text(self, name: str) -> str:
        path = self.folder / name
        return path.read_text(encoding="utf-8") if path.exists() else ""

    def data(self, name: str) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(self.text(name) or "{}")
        return found

    def desired(self, observed: Observed) -> Desired:
        return resolve(self.spec, self.facts, samples.decided(self.spec, observed))

    def plan(self, observed: Observed) -> Plan:
        only = self.request.get("only")
        if self.request.get("down"):
            volumes = bool(self.request.get("volumes"))
            names = self.spec.guests.keys()
            return down(
                observed, self.spec.name, spec_path=SPEC, names=names, only=only, volumes=volumes
            )
        desired = self.desired(observed)
        return diff(
            desired,
            observed,
            spec_path=SPEC,
            only=only,
            templates=self.rendered(desired),
            restart=bool(self.request.get("restart")),
            facts=self.facts,
        )

    def files(self) -> dict[str, str]:
        """What the case comes to, by file name."""
        try:
            plan = self.plan(self.observed)
            changed = self.all_changed(plan)
        except RequestError as error:  # exit code 2: nothing was touched
            return {"errors.txt": "\n".join(printed(each) for each in error.every())}
        plan_json = json.dumps(plan.as_dict(), indent=1, ensure_ascii=False) + "\n"
        return dict(ChainMap({"plan.json": plan_json}, *changed))

    def all_changed(self, plan: Plan) -> list[dict[str, str]]:
        """What all changes define; where some can't be defined, all the errors."""
        answer, errors = [], []
        for change in plan.changes:
            try:
                answer.append(self.changed(change))
            except RequestError as error:
                errors += error.every()
        if errors:
            raise SpecErrors(errors)
        return answer

    def changed(self, change: Change) -> dict[str, str]:
        """What one change defines, by file name."""
        if change.action not in ("create", "update", "replace"):
            return {}
        name = change.object.replace("/", "-")
        if isinstance(change.desired, Network):
            return {f"{name}.xml": network_xml(change.desired)}
        if not isinstance(change.desired, Guest):
            return {}
        guest = samples.with_image(change.desired)
        own = self.text(guest.spec.template) if guest.spec.template else ""
        answer = {f"{name}.xml": guest_xml(guest, own)}
        if guest.name in self.request.get("seed", ()):
            for file, text in seed.files(guest, samples.KEYS, "one-life").items():
                answer[f"{name}.{file}"] = text
        return answer


def printed(error: VirtkitError) -> str:
    found = error.as_dict()
    lines = (f"{key}: {found[key]}\n" for key in ("what", "where", "why", "cure") if found[key])
    return "".join(lines)


def network_xml(network: Network) -> str:
    element = record_text.network_element(record.of_network(network, SPEC))
    return pretty(tree.with_record(render.network_xml(network), element))


def guest_xml(guest: Guest, own: str) -> str:
    xml = render.from_user_template(guest, own) if own else ""
    element = record_text.guest_element(record.of_guest(guest, SPEC))
    return pretty(tree.with_record(render.domain_xml(guest, xml), element))


def pretty(xml: str) -> str:
    """A document for people. Its record is without `rendered`: that is the document itself."""
    return etree.tostring(tree.parse(xml, "it"), encoding="unicode", pretty_print=True)


def golden(files: dict[str, str]) -> dict[str, str]:
    """Files as they are reviewed: each record in a file of its own beside its XML."""
    answer = {}
    for file, text in files.items():
        answer[file] = text
        if file.endswith(".xml"):
            xml, found = split(text)
            lines = json.dumps(found, indent=1, sort_keys=True, ensure_ascii=False)
            answer[file] = xml
            answer[f"{file.removesuffix('.xml')}.record.json"] = f"{lines}\n"
    return answer


def split(xml: str) -> tuple[str, dict[str, Any]]:
    """A document without its record, and that."""
    (element,) = tree.parse(xml, "it").findall(f"metadata/{{{record_text.NAMESPACE}}}*")
    found: dict[str, Any] = json.loads(element.text or "")
    kind = etree.QName(element).localname
    named = {"environment": found["environment"], "name": found[kind]}
    finished = {"finished": "yes" if found["finished"] else "no"} if kind == "guest" else {}
    assert dict(element.attrib) == named | finished, "for the hook, and for people"
    return tree.without_record(xml, record_text.NAMESPACE), found


@pytest.mark.parametrize("name", NAMES)
def test_case(name: str, regen: bool) -> None:
    folder = HERE / name / "expected"
    found = golden(Case(HERE / name).files())
    if regen:
        folder.mkdir(exist_ok=True)
        for stale in {each.name for each in folder.iterdir()} - set(found):
            (folder / stale).unlink()
        for file, text in found.items():
            (folder / file).write_text(text, encoding="utf-8")
    expected = {each.name: each.read_text(encoding="utf-8") for each in folder.iterdir()}
    assert sorted(found) == sorted(expected)
    for file, text in found.items():
        assert text == expected[file], file


@pytest.mark.parametrize("name", NAMES)
def test_files_are_what_their_readers_take(name: str) -> None:
    for file, text in Case(HERE / name).files().items():
        if file.endswith(".xml"):
            root = etree.fromstring(text)
            if root.find("devices/controller[@type='nvme']") is None:  # libvirt 11.5's
                schemas.check(root.tag, text, file)
            found = record_text.read_guest(root) or record_text.read_network(root)
            assert found is not None, "what we write into libvirt can be read again"
        elif file.endswith(".user-data"):
            assert text.startswith("#cloud-config\n")
            assert yaml.safe_load(text)["ssh_pwauth"] is False
        elif file.endswith((".meta-data", ".network-config")):
            assert isinstance(yaml.safe_load(text), dict)


@pytest.mark.parametrize("name", NAMES)
def test_a_second_plan_has_no_changes(name: str) -> None:
    """Where the first one could be carried out: up again changes nothing."""
    case = Case(HERE / name)
    if case.request or "errors.txt" in case.files():
        return
    after = case.up(case.desired(case.observed))
    assert case.plan(after).as_dict()["changes"] == []


def test_there_is_one_for_each_type_and_for_all_that_a_plan_can_say() -> None:
    found = [
        json.loads(each.read_text(encoding="utf-8")) for each in HERE.glob("*/expected/plan.json")
    ]
    changes = [change for each in found for change in (*each["changes"], *each["pending"])]
    reasons = [reason for change in changes for reason in change["reasons"]]
    # `stop` is what the verb of that name does, and no spec asks for it
    assert {each["action"] for each in changes} == {*get_args(Action)} - {"stop"}
    assert {each["effect"] for each in changes} == {*ORDER}
    assert {each["cause"] for each in reasons} == {*get_args(Cause)}
    kinds = {each["object"].partition("/")[0] for each in changes}
    assert kinds == {"guest", "network", "image", "disk"}
    guests = [guest for name in NAMES for guest in Case(HERE / name).spec.guests.values()]
    assert {each.type for each in guests} == {*DRIVERS, "auto"}
