"""The carriers' XML, by lxml, never by string.

What anyone puts into a value stays in that value.
"""

from __future__ import annotations

import re

from lxml import etree

from gateway.carriers.base import HttpAnswer

# XML 1.0 (fifth edition), production 2 "Char": everything else cannot be written, not even as a reference.
_UNWRITABLE = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


def clean(text: str) -> str:
    """Take out the characters that XML cannot hold.

    Controls, lone surrogates, U+FFFE and U+FFFF.
    """
    return _UNWRITABLE.sub("", text)


def node(tag: str, *content: str | etree._Element, **attributes: str | None) -> etree._Element:
    """Make an element with its text or its children.

    An attribute of None is left out, an empty one is not.
    """
    element = etree.Element(tag)
    for name, value in attributes.items():
        if value is not None:
            element.set(name, clean(value))
    for part in content:
        if isinstance(part, str):
            element.text = clean(part)
        else:
            element.append(part)
    return element


def response(*verbs: etree._Element) -> bytes:
    """The whole document `<Response>…</Response>`. The same verbs give the same bytes."""
    return etree.tostring(node("Response", *verbs), encoding="UTF-8", xml_declaration=True)


def answer(*verbs: etree._Element) -> HttpAnswer:
    """The document as it is sent."""
    return HttpAnswer(response(*verbs))


def redirect(url: str) -> list[etree._Element]:
    """The verb that leads the call there, if anywhere."""
    return [node("Redirect", url, method="POST")] if url else []
