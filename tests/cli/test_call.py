"""`gateway call` as its user meets it, against a real `gateway serve`: what is not whole says why, with status 1."""

from __future__ import annotations

import gc
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from gateway.__main__ import main
from gateway.audio.files import read_wav, write_wav
from gateway.simulator import CARRIERS
from gateway.simulator.carrier import Request
from gateway.simulator.http import Answer, Http
from tests.acceptance.program import PLIVO_ID, PLIVO_TOKEN, Gateway, Program, free_port

BOT = """
import asyncio
import random

from gateway.audio.files import convert, read_wav
from gateway.worker import Audio

pcm, rate = read_wav(SPEECH)
same = convert(pcm, rate, 16000)[24000:].tobytes()  # what the caller will say in 1.5 s
noise = bytes(b for n in random.Random(1).randbytes(48000) for b in (0, n >> 3))


async def bot(call):
    kind = KINDS[int(call.data.to_number[-1])]
    if kind == "returns":
        return
    if kind in ("noise", "same"):
        await call.play(noise if kind == "noise" else same)
    async for event in call:
        if kind == "raises":
            raise RuntimeError("boom")
        if kind == "echo" and isinstance(event, Audio):
            await call.play(event.pcm)
"""
KINDS = ["echo", "returns", "raises", "noise", "same", "silent"]
SPEECH = Path(__file__).parents[2] / "gateway" / "assets" / "speech.wav"
NOBODY = "http://127.0.0.1:9"


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    folder = tmp_path_factory.mktemp("call")
    bot = folder / "bot.py"
    bot.write_text(BOT.replace("KINDS", str(KINDS)).replace("SPEECH", repr(str(SPEECH))))
    never = folder / "never.py"
    never.write_text("def prewarm():\n    raise RuntimeError('no model')\n\nasync def bot(call): pass\n")
    text = f"""
records = ""
[server]
ops_bind = "127.0.0.1:0"
drain_seconds = 2
overload_lag_ms = 1000
[[services]]
host = "echo"
default = true
bot = "{bot}"
wrapup_seconds = 1
[[services]]
host = "never"
min_warm = 0
bot = "{never}"
"""
    with Gateway.of(folder, text, "--dev") as gateway:
        yield gateway.url


@pytest.fixture
def second(tmp_path: Path) -> str:
    """A second of speech."""
    pcm, rate = read_wav(SPEECH)
    write_wav(tmp_path / "second.wav", pcm[:rate], rate)
    return str(tmp_path / "second.wav")


def lines(capsys: pytest.CaptureFixture[str]) -> dict[str, str]:
    """The report, by the word that each line begins with."""
    out = capsys.readouterr().out.splitlines()
    return {line[:14].strip(): line[15:] for line in out}


def to(kind: str) -> tuple[str, str]:
    """The number of the bot that does so."""
    return "--to", f"+1555010000{KINDS.index(kind)}"


def call(url: str, *more: str, carrier: str = "twilio") -> int:
    return main(["call", "--carrier", carrier, "--url", url, *more])


def test_an_echo_is_heard_and_saved(url: str, second: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    heard = tmp_path / "heard.wav"
    assert call(url, "--audio", second, "--save", str(heard)) == 0
    said = lines(capsys)
    assert said["outcome"] == "completed"
    assert float(said["echo delay"].split()[0]) >= 0
    assert np.abs(read_wav(heard)[0].astype(int)).max() > 1000


@pytest.mark.parametrize("carrier", CARRIERS)
def test_a_bot_that_raises_is_no_completed_call(
    url: str, second: str, carrier: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert call(url, "--audio", second, "--seconds", "5", *to("raises"), carrier=carrier) == 1
    assert lines(capsys)["outcome"] == "failed: the bot raised; the gateway's log says what and where"


def test_a_bot_that_hangs_up_is_a_completed_call(url: str, second: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert call(url, "--audio", second, *to("returns")) == 0
    said = lines(capsys)
    assert (said["outcome"], said["ended"].partition(",")[0]) == ("completed", "by the gateway")


def test_a_bot_that_says_nothing_is_said_to(url: str, second: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert call(url, "--audio", second, *to("silent")) == 0
    assert lines(capsys)["echo"] == "none was heard: the bot has said nothing"


@pytest.mark.parametrize("carrier", CARRIERS)
def test_hold_audio_alone_is_no_completed_call(url: str, carrier: str, capsys: pytest.CaptureFixture[str]) -> None:
    """The bot's `prewarm` raises: the caller is held for as long as a start may still succeed, and hangs up."""
    assert call(url, "--service-host", "never", "--seconds", "3", carrier=carrier) == 1
    said = lines(capsys)
    assert said["outcome"].startswith("failed: no bot took the call") or said["outcome"] == "busy", said
    assert "echo" not in said


@pytest.mark.parametrize("bot", ["noise", "same"])
def test_a_bot_that_is_no_echo_has_no_echo_delay(url: str, bot: str, capsys: pytest.CaptureFixture[str]) -> None:
    """`same`: the bot says the caller's own sentence, so that what the caller says is heard before it is said."""
    assert call(url, *to(bot), "--seconds", "3") == 0
    said = lines(capsys)
    assert "echo delay" not in said
    assert said["echo"].startswith("none was heard")


def test_no_collection_and_no_import_is_in_the_webhooks_time(
    url: str, second: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Either takes 20 to 90 ms of this process, which would be said to be the gateway's."""
    send, collected, imported = Http.send, [], set[str]()

    def note(phase: str, info: dict[str, int]) -> None:
        collected.append(info)

    async def watched(self: Http, request: Request) -> Answer:
        before = set(sys.modules)
        gc.set_threshold(1)  # at every opportunity
        gc.callbacks.append(note)
        try:
            return await send(self, request)
        finally:
            gc.callbacks.remove(note)
            gc.set_threshold(*threshold)
            imported.update(set(sys.modules) - before)

    threshold = gc.get_threshold()
    monkeypatch.setattr(Http, "send", watched)
    assert call(url, "--audio", second, "--seconds", "0.2") == 0
    assert (collected, imported) == ([], set())


def test_a_service_that_is_not_there_is_rejected(url: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert call(url, "--service-host", "absent") == 1
    assert lines(capsys)["outcome"] == "rejected"


def test_what_was_heard_is_reported_even_if_it_cannot_be_saved(
    url: str, second: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("gateway.audio.files.write_wav", full)
    heard = str(tmp_path / "heard.wav")
    assert call(url, "--audio", second, "--save", heard) == 1
    out, err = capsys.readouterr()
    assert "outcome        completed" in out
    assert err == f"gateway call: --save: {heard} was not written: No space left on device\n"


# What cannot be tried.


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ([], f"--url: nothing answers at {NOBODY} ("),
        (["--audio", "nowhere.wav"], "--audio: nowhere.wav: No such file"),
        (["--save", "nowhere/at/all.wav"], "--save: nowhere/at/all.wav: No such file"),
    ],
)
@pytest.mark.parametrize("carrier", CARRIERS)
def test_what_cannot_be_tried_is_one_line(
    arguments: list[str], said: str, carrier: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert call(NOBODY, *arguments, carrier=carrier) == 2
    out, err = capsys.readouterr()
    assert (out, err.count("\n")) == ("", 1)
    assert err.startswith(f"gateway call: {said}")


def test_audio_of_no_length_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_wav(tmp_path / "empty.wav", np.zeros(0, np.int16), 8000)
    assert call(NOBODY, "--audio", str(tmp_path / "empty.wav")) == 2
    assert "there is no audio in it" in capsys.readouterr().err


# What the gateway refuses.


@pytest.fixture(scope="module")
def strict(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A gateway that knows Plivo alone, and believes it to be somewhere else."""
    text = f"""public_url = "https://voice.example.com"
secret = "0123456789abcdef"
[server]
ops_bind = "127.0.0.1:0"
[carriers.plivo]
auth_id = "{PLIVO_ID}"
auth_token = "{PLIVO_TOKEN}"
[[services]]
host = "echo"
bot = "gateway.worker.echo:bot"
"""
    folder = tmp_path_factory.mktemp("strict")
    file = folder / "gateway.toml"
    file.write_text(text)
    port = free_port()
    with Program("serve", "--config", str(file), "--port", str(port)) as program:
        program.log("ready")
        yield f"http://127.0.0.1:{port}"


@pytest.mark.parametrize(
    ("carrier", "signed", "public", "said"),
    [
        ("plivo", False, "", "nothing was signed: set the carrier's secrets in the environment"),
        ("plivo", True, "", "if its public_url is another, add --public-url"),
        ("plivo", True, "https://other.example.com", "is it public_url in its settings?"),
        ("twilio", False, "", "[carriers.twilio] has no credentials in the gateway's settings"),
    ],
)
def test_a_refused_webhook_has_a_hint(
    strict: str,
    carrier: str,
    signed: bool,
    public: str,
    said: str,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    if signed:
        monkeypatch.setenv("PLIVO_AUTH_ID", PLIVO_ID)
        monkeypatch.setenv("PLIVO_AUTH_TOKEN", PLIVO_TOKEN)
    assert call(strict, *(["--public-url", public] if public else []), carrier=carrier) == 1
    report = lines(capsys)
    assert report["outcome"].startswith("failed: ")
    assert said in report["hint"]


def test_the_right_public_url_needs_no_hint(
    strict: str, second: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PLIVO_AUTH_ID", PLIVO_ID)
    monkeypatch.setenv("PLIVO_AUTH_TOKEN", PLIVO_TOKEN)
    assert call(strict, "--public-url", "https://voice.example.com", "--audio", second, carrier="plivo") == 0
    assert "hint" not in lines(capsys)
