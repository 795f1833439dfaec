"""CallData against what Pipecat's does: the table of shared behaviour, and ours beyond it."""

from __future__ import annotations

import orjson
import pytest
from pydantic import ValidationError

from serializers.call_data import CallData, ExotelCallData, TelnyxCallData, own_parameters_removed

KINDS = (CallData, TelnyxCallData, ExotelCallData)


@pytest.mark.parametrize("kind", KINDS)
def test_unset_fields_are_none_and_the_body_is_empty(kind):
    cd = kind()
    assert (cd.stream_id, cd.call_id, cd.from_number, cd.to_number, cd.body) == (None, None, None, None, {})


@pytest.mark.parametrize("kind", KINDS)
def test_each_has_a_body_of_its_own(kind):
    kind().body["x"] = 1
    assert kind().body == {}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("given", [{"from": "+1", "to": "+2"}, {"from_number": "+1", "to_number": "+2"}])
def test_built_by_wire_key_and_by_field_name(kind, given):
    cd = kind(**given)
    assert (cd.from_number, cd.to_number, cd["from"], cd["to"]) == ("+1", "+2", "+1", "+2")


@pytest.mark.parametrize("key", ["from_number", "to_number", "nothing", ""])
def test_item_access_is_over_wire_keys(key):
    cd = CallData(**{"from": "+1", "to": "+2"})
    with pytest.raises(KeyError):
        cd[key]
    assert key not in cd
    assert cd.get(key) is None
    assert cd.get(key, "default") == "default"


def test_an_unset_field_as_item_is_none_not_in_and_gets_the_default():
    cd = CallData()
    assert cd["call_id"] is None
    assert "call_id" not in cd
    assert cd.get("call_id", "default") == "default"


def test_empty_text_counts_as_present_and_body_always_is():
    cd = CallData(**{"from": ""})
    assert "from" in cd
    assert cd.get("from", "default") == ""
    assert "body" in cd


def test_body_none_is_a_validation_error():
    with pytest.raises(ValidationError):
        CallData(body=None)


@pytest.mark.parametrize("wrong", [{"from": 5}, {"call_id": 5}, {"body": []}, {"stream_id": {}}])
def test_a_wrong_type_is_a_validation_error(wrong):
    with pytest.raises(ValidationError):
        CallData(**wrong)


def test_extras_are_readable_as_attribute_and_as_item():
    cd = CallData(tenant="acme", nothing=None)
    assert cd.tenant == cd["tenant"] == cd.get("tenant") == "acme"
    assert "tenant" in cd
    assert cd["nothing"] is None
    assert "nothing" not in cd


def test_no_mapping_beyond_that():
    cd = CallData()
    assert not hasattr(cd, "keys")
    with pytest.raises(TypeError):
        len(cd)
    with pytest.raises(TypeError):
        cd["call_id"] = "x"


def test_subclasses_add_their_own_fields():
    assert TelnyxCallData(outbound_encoding="PCMA")["outbound_encoding"] == "PCMA"
    exotel = ExotelCallData(account_sid="acme1", custom_parameters="a=b")
    assert (exotel["account_sid"], exotel["custom_parameters"]) == ("acme1", "a=b")
    assert ExotelCallData(custom_parameters={"a": "b"}).custom_parameters == {"a": "b"}
    assert TelnyxCallData()["outbound_encoding"] is None


@pytest.mark.parametrize(
    ("kind", "carrier", "encoding"),
    [(CallData, "", "mulaw"), (TelnyxCallData, "telnyx", "mulaw"), (ExotelCallData, "exotel", "l16")],
)
def test_our_own_fields_are_always_set(kind, carrier, encoding):
    cd = kind()
    assert (cd.carrier, cd.encoding, cd.sample_rate) == (carrier, encoding, 8000)
    assert (cd.direction, cd.service_host, cd.raw_from, cd.raw_to) == ("inbound", "", "", "")


@pytest.mark.parametrize("kind", KINDS)
def test_wire_is_json_in_wire_keys_and_back_in_its_own_class(kind):
    cd = kind(**{"from": "+1", "to": "+2", "call_id": "c", "body": {"a": [1, {"b": None}]}, "extra": None})
    wire = orjson.loads(orjson.dumps(cd.wire()))
    assert (wire["from"], wire["to"]) == ("+1", "+2")
    assert "from_number" not in wire
    again = CallData.from_wire(wire)
    assert type(again) is kind
    assert again == cd
    assert again["extra"] is None


@pytest.mark.parametrize("carrier", ["twilio", "vonage", None, 5])
def test_from_wire_of_another_carrier_is_plain_call_data(carrier):
    fields = {"call_id": "c"} if carrier is None else {"call_id": "c", "carrier": carrier}
    if carrier == 5:
        with pytest.raises(ValueError, match="carrier"):
            CallData.from_wire(fields)
    else:
        assert type(CallData.from_wire(fields)) is CallData


def test_our_own_parameters_are_removed_and_the_authors_stay():
    authors = {"token": "t", "session": "s17", "attempt": "40", "after": "lunch", "keys": 1}
    assert own_parameters_removed({"key": "k", "gw_session": "x", **authors}) == authors
    assert own_parameters_removed({"serviceHost": "support.acme"}) == {"serviceHost": "support.acme"}
