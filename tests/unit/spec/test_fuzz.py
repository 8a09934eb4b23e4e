"""Whatever stands in a spec: it is read, or refused with every error placed and cured."""

import json
from pathlib import Path

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from virtkit.errors import RequestError
from virtkit.spec import Spec, read_text
from virtkit.spec.model import (
    Build,
    Dhcp,
    Disk,
    GuestEntry,
    Image,
    InterfaceSpec,
    Kernel,
    NetworkSpec,
    Ready,
)

MODELS = (GuestEntry, Image, Build, NetworkSpec, Dhcp, Disk, InterfaceSpec, Ready, Kernel)
KEYS = sorted({key for model in MODELS for key in model.model_fields})
TOP = ("name", "hosts", "images", "networks", "defaults", "profiles", "guests")
VALUES = (
    *("web", "db", "front", "default", "debian-12", "lxc", "qemu", "auto", "nat", "bridge"),
    *("ssh", "none", "1GiB", "512MiB", "5m", "10.0.0.0/24", "10.0.0.7", "52:54:00:00:00:01"),
    *("..", "-rf", "<x>", "$(id)", "a\nb", "", "/srv", "http://x/y", "local"),
)

scalars = (
    st.sampled_from(VALUES)
    | st.text(max_size=12)
    | st.integers(-5, 2000)
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.booleans()
    | st.none()
)
keys = st.sampled_from(KEYS) | st.sampled_from(VALUES) | st.text(max_size=6)
trees = st.recursive(
    scalars,
    lambda below: st.lists(below, max_size=3) | st.dictionaries(keys, below, max_size=4),
    max_leaves=20,
)
guests = st.dictionaries(st.sampled_from(KEYS), trees, max_size=5)
named = st.dictionaries(st.sampled_from(VALUES) | st.text(max_size=5), guests | trees, max_size=4)
specs = st.fixed_dictionaries(
    {"name": st.just("lab")},
    optional={"defaults": guests} | {key: named | trees for key in TOP[1:] if key != "defaults"},
)
yaml_text = st.text(
    alphabet=st.sampled_from("ab1:-?[]{},&*!|>'\"%@`# \n\t~<.\\x0\r\ufeff\u2028\x85é"), max_size=60
)

thorough = settings(max_examples=200, deadline=None, suppress_health_check=list(HealthCheck))


def check(text: str) -> None:
    refused: RequestError | None = None
    try:
        spec = read_text(text, source="spec.yaml", folder=Path("/specs"))
    except RequestError as error:
        refused = error
    if refused is None:
        check_spec(spec)
    else:
        check_errors(refused)


def check_errors(refused: RequestError) -> None:
    assert refused.exit_code == 2
    for error in refused.every():
        assert error.cure
        assert error.where.startswith("spec.yaml:")
        for line in (error.what, error.why, error.cure, error.where):
            assert line.isprintable()
        assert "can't stand here" not in error.what, "an error that has no words of its own"


def check_spec(spec: Spec) -> None:
    for name, guest in spec.guests.items():
        assert guest.name == name
        json.dumps(guest.requested, allow_nan=False)
        assert guest.image in spec.images
        assert {link.name for link in guest.interfaces} <= set(spec.networks)
        assert set(guest.after) <= set(spec.guests)


@thorough
@given(specs)
def test_any_structure(data: object) -> None:
    check(json.dumps(data))


@thorough
@given(yaml_text)
def test_any_text(text: str) -> None:
    check(text)


@thorough
@given(yaml_text)
def test_any_text_inside_a_spec(text: str) -> None:
    check(f"name: lab\nguests:\n  web:\n    cloud_init: {text}\n")
