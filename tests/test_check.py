"""`gateway check`: how long a worker takes to start, and how many must be warm for it."""

from __future__ import annotations

import time

import pytest

from gateway.__main__ import main
from gateway.cli.check import NOTE, measure
from gateway.cli.start_time import measure_start, needed_warm
from gateway.errors import BotError
from gateway.settings import Settings

ECHO = "gateway.worker.echo:bot"


@pytest.fixture
def bot(tmp_path):
    def write(text: str) -> str:
        path = tmp_path / "a_bot.py"
        path.write_text(text)
        return str(path)

    return write


def settings(*services: dict) -> Settings:
    return Settings.model_validate({"services": list(services)})


@pytest.mark.parametrize(
    ("cps", "seconds", "warm"),
    [(1, 0.02, 1), (1, 1.0, 1), (1, 1.01, 2), (50, 0.02, 1), (50, 0.15, 8), (0.1, 20, 2), (10, 0, 1)],
)
def test_while_a_worker_starts_those_before_it_must_suffice(cps, seconds, warm):
    assert needed_warm(cps, seconds) == warm


async def test_a_worker_is_really_started(tmp_path):
    assert await measure_start(ECHO, 10) > 0


async def test_what_its_prewarm_takes_counts_and_what_its_import_takes_does_not(bot):
    slow = bot("import time\ntime.sleep(0.6)\nasync def bot(call): ...\ndef prewarm(): time.sleep(0.2)\n")
    began = time.monotonic()
    counted = await measure_start(slow, 10)
    assert counted >= 0.2
    assert time.monotonic() - began - counted >= 0.6, "its import is not in what did not count"


async def test_a_bot_that_starts_threads_is_measured_as_it_will_run(bot):
    threads = bot("import threading, time\nthreading.Thread(target=time.sleep, args=(9,), daemon=True).start()\n"
                  "async def bot(call): ...\n")  # fmt: skip
    assert await measure_start(threads, 10) > 0


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("import nothing_of_that_name", "No module named"),
        ("async def bot(call): ...\ndef prewarm(): raise RuntimeError('no key')", "no key"),
        ("async def bot(call): ...\ndef prewarm(): import os; os._exit(3)", "ended before it was ready"),
    ],
)
async def test_a_bot_that_cannot_be_used(bot, text, why):
    with pytest.raises(BotError, match=why):
        await measure_start(bot(text), 10)


async def test_it_takes_no_longer_than_it_may(bot):
    with pytest.raises(TimeoutError):
        await measure_start(bot("async def bot(call): ...\ndef prewarm():\n    import time; time.sleep(1.2)"), 0.6)


def test_enough_is_a_note_and_too_few_is_a_finding(bot):
    slow = bot("import time\nasync def bot(call): ...\ndef prewarm(): time.sleep(0.3)\n")
    few, enough = measure(
        settings({"host": "few", "bot": slow, "min_warm": 2}, {"host": "enough", "bot": slow, "min_warm": 20}), 10
    )
    assert few.startswith("services.few.min_warm: a worker starts in ")
    assert few.endswith(" warm, it is 2")
    assert enough.startswith(NOTE + "services.enough.min_warm: ")


def test_what_cannot_be_measured(bot):
    broken = bot("import nothing_of_that_name")
    [line] = measure(
        settings(
            {"host": "static", "workers": ["ws://10.0.0.7/ws"]},
            {"host": "absent", "bot": "absent.py"},  # which `examine` says
            {"host": "broken", "bot": broken},
        ),
        1,
    )
    assert line.startswith("services.broken.bot: ")


def test_the_command(tmp_path, capsys):
    file = tmp_path / "gateway.toml"
    file.write_text(f'[dialout]\ncps = 0.1\n[[services]]\nhost = "a.b"\nbot = "{ECHO}"\n')
    assert main(["check", "--config", str(file)]) == 1
    assert "0.1 calls/s need 1 warm, it is 2" in capsys.readouterr().out
    assert main(["check", "--config", str(file), "--cps", "5"]) == 1
    assert "5 calls/s need" in capsys.readouterr().out
    assert main(["check", "--config", str(file), "--no-measure"]) == 1
    assert "warm" not in capsys.readouterr().out
