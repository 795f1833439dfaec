"""The Python that bots run in, ours or their own, and the environment that they see."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Mapping

from gateway.errors import BotError
from gateway.worker.logs import LOG_VARIABLE
from gateway.worker.process import CHANNEL_FIELDS

ONE_THREAD = (
    "OMP_NUM_THREADS",
    "OPENBLAS_NUM_THREADS",
    "MKL_NUM_THREADS",
    "VECLIB_MAXIMUM_THREADS",
    "NUMEXPR_NUM_THREADS",
)
"""Numeric libraries start a thread per core when imported, which makes forking unsafe, and a worker 11 MB instead of
3 MB and 18 ms instead of 3 ms (numpy 2, OpenBLAS). A voice has 20 ms blocks: threads never pay."""

LIBRARIES = {"ORT_DISABLE_TELEMETRY": "1", "LOGURU_LEVEL": "INFO"}
"""onnxruntime, which Pipecat's VAD imports, starts a thread at import to report its use, and keeps a database open: no
such process can be forked. Pipecat logs telephone numbers at DEBUG, which is loguru's default."""

CHECK_TIMEOUT = 60.0
"""Seconds in which an interpreter must have imported what workers need; on a cold disk that takes some."""


def environment(ours: Mapping[str, str]) -> dict[str, str]:
    """What workers see of our environment.

    Without the gateway's settings, which hold keys; with one thread per numeric library, and with LIBRARIES, unless our
    environment sets them already.
    """
    kept = {name: value for name, value in ours.items() if not name.startswith("GATEWAY_") or name == LOG_VARIABLE}
    return {**dict.fromkeys(ONE_THREAD, "1"), **LIBRARIES, **kept}


async def check_python(python: str) -> None:
    """Raise BotError, one line, unless this interpreter runs, and has the gateway of our version."""
    install = f"{python} -m pip install carrier-stream-gateway"
    try:
        process = await asyncio.create_subprocess_exec(
            python,
            "-Pc",
            "from gateway.worker.process import CHANNEL_FIELDS; print(CHANNEL_FIELDS)",
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            env=environment(os.environ),
            start_new_session=True,
        )
    except OSError as e:
        raise BotError(
            f"{python}: cannot be run: {e.strerror or e}; name the interpreter of the bot's environment, as "
            "/srv/bot/.venv/bin/python"
        ) from None
    try:
        out, err = await asyncio.wait_for(process.communicate(), CHECK_TIMEOUT)
    except TimeoutError:
        process.kill()
        await process.communicate()
        raise BotError(f"{python}: did not import the gateway within {CHECK_TIMEOUT:g} s") from None
    lines = [line for line in err.decode(errors="replace").splitlines() if line.strip()]
    if lines and lines[0].lower().startswith("unknown option"):
        raise BotError(
            f"{python}: is older than Python 3.11, which the gateway needs: make the bot's environment with a newer one"
        )
    if process.returncode != 0:
        why = lines[-1] if lines else f"exit status {process.returncode}"
        raise BotError(f"{python}: the gateway cannot be imported there: {why}; install it beside the bot: {install}")
    if out.decode().strip() != CHANNEL_FIELDS:
        raise BotError(f"{python}: the gateway there is of another version than this one: {install} --upgrade")
