"""The fixture format: what was written is read back to the byte; what is wrong is named by its line."""

from __future__ import annotations

import base64
import json
import stat
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.errors import RecordingError
from gateway.recording import MAX_LINE, Entry, Recording, mask_number, mask_secrets

FIXTURES = Path(__file__).parents[1] / "fixtures"


def media(payload: bytes, spaces: str = "") -> str:
    return f'{{"event":"media","media":{{"payload":{spaces}"{base64.b64encode(payload).decode()}"}}}}'


def recording() -> Recording:
    return Recording(
        "twilio",
        call={"call_id": "CA1", "from": "+15550100001"},
        what="a test",
        entries=[
            Entry(0, "request", "carrier", method="POST", url="https://h/v", form=(("From", "+1"), ("Empty", ""))),
            Entry(1.5, "response", "gateway", status=200, text="<Response/>"),
            Entry(2, "open", "carrier", url="wss://h/ws"),
            Entry(3, "message", "carrier", text=media(b"\x7f\xff" * 80)),
            Entry(3.25, "message", "gateway", text=media(b"\x01" * 160, " ")),
            Entry(4, "message", "carrier", text=media(b"\x00" * 3)),
            Entry(4, "message", "carrier", data=b"\x00\xff"),
            Entry(4, "message", "carrier", text="grüß \ud83d\ude00 not json"),
            Entry(9, "close", "gateway", code=1000),
        ],
    )


def test_what_was_written_is_read_to_the_byte(tmp_path: Path) -> None:
    original = recording()
    original.entries[7] = Entry(4, "message", "carrier", text="grüß not json")
    original.write(tmp_path / "call.jsonl")
    assert Recording.read(tmp_path / "call.jsonl") == original


def test_payloads_stand_in_the_wav_files(tmp_path: Path) -> None:
    original = recording()
    del original.entries[7]
    original.write(tmp_path / "call.jsonl")
    text = (tmp_path / "call.jsonl").read_text()
    assert '\\"payload\\":\\"@carrier:0+160\\"' in text
    assert '\\"payload\\":\\"@carrier:160+3\\"' in text
    assert '\\"payload\\": \\"@gateway:0+160\\"' in text
    wav = (tmp_path / "call.wav").read_bytes()
    assert wav[:4] == b"RIFF"
    assert int.from_bytes(wav[4:8], "little") == len(wav) - 8
    assert wav[20:22] == b"\x07\x00"  # μ-law
    assert b"\x7f\xff" * 80 + b"\x00" * 3 in wav


@pytest.mark.parametrize("encoding", ["PCMA", "L16"])
def test_other_encodings_have_their_own_wav(tmp_path: Path, encoding: str) -> None:
    original = Recording("telnyx", encoding, 16000, entries=[Entry(0, "message", "carrier", text=media(bytes(320)))])
    original.write(tmp_path / "c.jsonl")
    assert Recording.read(tmp_path / "c.jsonl") == original


def test_an_l16_wav_is_one_that_anybody_plays(tmp_path: Path) -> None:
    import wave

    original = Recording("exotel", "L16", 8000, entries=[Entry(0, "message", "carrier", text=media(b"\1\2" * 8))])
    original.write(tmp_path / "c.jsonl")
    with wave.open(str(tmp_path / "c.wav")) as wav:
        assert (wav.getframerate(), wav.getnchannels(), wav.readframes(8)) == (8000, 1, b"\1\2" * 8)


def test_without_the_gateways_audio_its_payloads_are_silence_as_long(tmp_path: Path) -> None:
    original = recording()
    del original.entries[7]
    original.write(tmp_path / "call.jsonl", keep_gateway_audio=False)
    assert not (tmp_path / "call.gateway.wav").exists()
    read = Recording.read(tmp_path / "call.jsonl")
    assert read.entries[4].text == media(b"\xff" * 160, " ")
    assert read.entries[3] == original.entries[3]


def test_only_the_owner_may_read_the_files(tmp_path: Path) -> None:
    (tmp_path / "call.jsonl").write_text("old")
    (tmp_path / "call.jsonl").chmod(0o644)
    original = recording()
    del original.entries[7]
    original.write(tmp_path / "call.jsonl")
    for name in ("call.jsonl", "call.wav", "call.gateway.wav"):
        assert stat.S_IMODE((tmp_path / name).stat().st_mode) == 0o600


def test_a_payload_that_is_not_canonical_base64_stays_in_its_line(tmp_path: Path) -> None:
    texts = ['{"payload":"AB=="}', '{"payload":"A"}', '{"payload":""}', '{"payload":"@carrier"}']
    original = Recording("twilio", entries=[Entry(0, "message", "carrier", text=text) for text in texts])
    original.write(tmp_path / "c.jsonl")
    assert Recording.read(tmp_path / "c.jsonl") == original
    assert not (tmp_path / "c.wav").exists()


def test_truncated_is_kept(tmp_path: Path) -> None:
    Recording("twilio", truncated=True).write(tmp_path / "c.jsonl")
    assert Recording.read(tmp_path / "c.jsonl").truncated


def test_an_encoding_that_no_wav_holds_is_refused(tmp_path: Path) -> None:
    with pytest.raises(RecordingError, match="OPUS"):
        Recording("telnyx", "OPUS").write(tmp_path / "c.jsonl")


HEADER = '{"recording":1,"carrier":"twilio","encoding":"PCMU","rate":8000}\n'
LINE = '{"ms":5,"kind":"message","party":"carrier","text":"{}"}\n'


@pytest.mark.parametrize(
    ("text", "line", "said"),
    [
        ("", 1, "not a recording"),
        ("[]\n", 1, "not a recording"),
        ('{"recording":2}\n', 1, "not a recording"),
        ('{"recording":1,"encoding":"OPUS","rate":8000}\n', 1, "OPUS"),
        ('{"recording":1,"encoding":"PCMU","rate":"8000"}\n', 1, "PCMU"),
        (HEADER + "{\n", 2, "not JSON"),
        (HEADER + "\n\n7\n", 4, "not a JSON object"),
        (HEADER + '{"ms":1}\n', 2, "kind"),
        (HEADER + LINE.replace("message", "gossip"), 2, "gossip"),
        (HEADER + LINE.replace("carrier", "stranger"), 2, "stranger"),
        (HEADER + LINE.replace("5", "-1"), 2, "ms"),
        (HEADER + LINE.replace("5", "true"), 2, "ms"),
        (HEADER + LINE.replace('"{}"', "7"), 2, "text"),
        (HEADER + LINE.replace('"text":"{}"', '"data":"?"'), 2, "base64"),
        (HEADER + LINE.replace('"text":"{}"', '"form":[1]'), 2, ""),
        (HEADER + LINE + LINE.replace("5", "4"), 3, "back in time"),
        (HEADER + '{"ms":1,"kind":"message","party":"carrier","text":"' + "x" * MAX_LINE + '"}\n', 2, "longer"),
    ],
)
def test_what_is_wrong_is_named_by_its_line(tmp_path: Path, text: str, line: int, said: str) -> None:
    path = tmp_path / "c.jsonl"
    path.write_text(text)
    with pytest.raises(RecordingError) as error:
        Recording.read(path)
    assert f"{path}:{line}: " in str(error.value)
    assert said in str(error.value)


def test_a_reference_behind_the_audio_is_an_error(tmp_path: Path) -> None:
    Recording("twilio", entries=[Entry(0, "message", "carrier", text=media(bytes(160)))]).write(tmp_path / "c.jsonl")
    path = tmp_path / "c.jsonl"
    path.write_text(path.read_text().replace("0+160", "1+160"))
    with pytest.raises(RecordingError, match=r"c\.jsonl:2: the audio ends"):
        Recording.read(path)


@pytest.mark.parametrize("wav", [b"", b"RIFF\0\0\0\0WAVE", b"not a wav file at all"])
def test_a_wav_file_that_is_none_is_an_error(tmp_path: Path, wav: bytes) -> None:
    (tmp_path / "c.jsonl").write_text(HEADER)
    (tmp_path / "c.wav").write_bytes(wav)
    with pytest.raises(RecordingError, match="WAV"):
        Recording.read(tmp_path / "c.jsonl")


def test_a_file_that_is_not_there_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(RecordingError, match="No such file"):
        Recording.read(tmp_path / "none.jsonl")


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=8,
)
fields = st.fixed_dictionaries(
    {"ms": st.integers(0, 9) | json_values},
    optional={
        "kind": st.just("message") | json_values,
        "party": st.just("carrier") | json_values,
        "text": st.text(max_size=20) | json_values,
        "data": json_values,
        "form": json_values,
        "status": json_values,
        "code": json_values,
    },
)


@given(lines=st.lists(fields.map(json.dumps) | json_values.map(json.dumps) | st.text(max_size=40), max_size=4))
def test_whatever_is_in_the_file_only_recording_errors_are_raised(
    tmp_path_factory: pytest.TempPathFactory, lines: list[str]
) -> None:
    path = tmp_path_factory.mktemp("any") / "c.jsonl"
    path.write_text(HEADER + "".join(line + "\n" for line in lines), encoding="utf-8", errors="replace")
    try:
        Recording.read(path)
    except RecordingError:
        pass


@pytest.mark.parametrize(
    ("number", "masked"),
    [
        ("+442071234567", "+15550100067"),
        ("09494865411", "05550100011"),
        ("918035735900", "15550100000"),
        ("sip:user@phone.plivo.com", "sip:user@phone.plivo.com"),
        ("anonymous", "anonymous"),
        ("911", "911"),
    ],
)
def test_numbers_keep_two_digits_and_their_form(number: str, masked: str) -> None:
    assert mask_number(number) == masked


def test_long_random_words_of_urls_are_masked() -> None:
    token = "eyJhbGciOiJIUzI1NiJ9_x-y.z0123456789"
    text = f'<Stream url="wss://h/ws/twilio/{token}"/><Redirect>https://h/r?session={token}&amp;a=1</Redirect>'
    masked = mask_secrets(text)
    assert token not in masked
    assert masked.count("x" * len(token)) == 2
    assert mask_secrets("wss://h/ws/twilio/short?a=b") == "wss://h/ws/twilio/short?a=b"


@pytest.mark.parametrize("carrier", ["twilio", "telnyx", "plivo", "exotel"])
def test_the_fixtures_can_be_read(carrier: str) -> None:
    fixture = Recording.read(FIXTURES / f"{carrier}.jsonl")
    assert fixture.carrier == carrier
    assert [entry.kind for entry in fixture.entries[:3]] == ["request", "response", "open"]
    assert fixture.entries[-1].kind == "close"
    sizes = sum(path.stat().st_size for path in FIXTURES.glob(f"{carrier}*"))
    assert sizes < 150_000
