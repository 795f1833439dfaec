from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from lxml import etree

from gateway.carriers import xml


@pytest.mark.parametrize(
    ("hostile", "held"),
    [
        ("\"'><&", "\"'><&"),
        ("</Number><Redirect>http://evil</Redirect>", "</Number><Redirect>http://evil</Redirect>"),
        ("]]><!-- &amp; -->", "]]><!-- &amp; -->"),
        ("nul\x00 bell\x07 esc\x1b del\x7f", "nul bell esc del\x7f"),
        ("\ud800lone\udfff", "lone"),
        ("\ufffe\uffff", ""),
        ("tab\tline\nreturn\r", "tab\tline\nreturn\r"),
        ("यह 🙂", "यह 🙂"),
        ("x" * 100_000, "x" * 100_000),
    ],
    ids=["quotes", "tags", "cdata", "controls", "surrogates", "noncharacters", "blanks", "unicode", "100KB"],
)
def test_value_stays_in_its_place(hostile: str, held: str) -> None:
    document = xml.response(xml.node("Dial", xml.node("Number", hostile), action=hostile, callerId="1"))
    (dial,) = etree.fromstring(document)
    assert dict(dial.items()) == {"action": held, "callerId": "1"}
    (number,) = dial
    assert (number.text or "") == held
    assert len(number) == 0


def test_document_has_a_declaration() -> None:
    assert xml.response() == b"<?xml version='1.0' encoding='UTF-8'?>\n<Response/>"


def test_none_is_left_out_and_empty_is_not() -> None:
    assert etree.tostring(xml.node("Parameter", name="a", value="", more=None)) == b'<Parameter name="a" value=""/>'


@given(st.text(st.characters()), st.text(st.characters()))
def test_any_text_reads_back(attribute: str, text: str) -> None:
    (verb,) = etree.fromstring(xml.response(xml.node("Say", text, voice=attribute)))
    assert verb.get("voice") == xml.clean(attribute)
    assert (verb.text or "") == xml.clean(text)


def test_an_answer_is_the_document() -> None:
    answer = xml.answer(xml.node("Hangup"))
    assert (answer.body, answer.status) == (xml.response(xml.node("Hangup")), 200)
    assert answer.content_type == "text/xml; charset=utf-8"


def test_redirect_leads_somewhere_or_is_not_there() -> None:
    (verb,) = xml.redirect("https://h/r?a=1&b=2")
    assert etree.tostring(verb) == b'<Redirect method="POST">https://h/r?a=1&amp;b=2</Redirect>'
    assert xml.redirect("") == []
