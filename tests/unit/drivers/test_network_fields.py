"""The table of networks' fields: each is one of the model's, and found at its places."""

import pytest

from virtkit.drivers.network_fields import NETWORK_FIELDS, network_effect, network_field_at
from virtkit.spec.model import NetworkSpec


def test_each_row_is_a_field_of_the_model() -> None:
    assert NETWORK_FIELDS.keys() <= NetworkSpec.model_fields.keys()


@pytest.mark.parametrize(
    ("path", "field"),
    [
        ("dns/host[10.20.0.5]/hostname", "names"),
        ("dns/forwarder[corp.test]/@addr", "forward"),
        ("mtu/@size", "mtu"),
        ("ip[10.20.0.1]/tftp/@root", "tftp"),
        ("ip[10.20.0.1]/dhcp/bootp", "bootfile"),
        ("ip[10.20.0.1]/dhcp/host[52:54:00:00:00:01]", ""),
        ("bridge/@stp", ""),
    ],
)
def test_a_place_in_the_xml_is_a_fields(path: str, field: str) -> None:
    assert network_field_at(path) == field


def test_what_has_no_row_makes_another_network() -> None:
    assert network_effect("cidr") == "recreate"
    assert network_effect("names") == "live"
