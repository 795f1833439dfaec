"""A stand-in for Pipecat Cloud's worker image, with a real bot: `python image.py FOLDER PORT`.

Its contract, from `dailyco/pipecat-base`: `/ws` accepts at once, knows `x-daily-session-id` and `?body=`, and leaves
the socket as the bot has left it; `/readyz` and `/livez` do not turn busy in a call; one process takes call after call.
"""

from __future__ import annotations

import base64
import importlib
import json
import sys
import traceback
from typing import Any

import uvicorn
from fastapi import FastAPI, WebSocket
from pipecat.runner.types import WebSocketRunnerArguments

app = FastAPI()


@app.get("/readyz")
@app.get("/livez")
async def ready() -> dict[str, str]:
    return {"status": "ready"}


def decoded(body: str | None) -> Any:
    """Undo base64 of the standard alphabet; anything else is None, as there."""
    if body is None:
        return None
    try:
        return json.loads(base64.b64decode(body, validate=True))
    except ValueError:
        return None


@app.websocket("/ws")
async def serve(websocket: WebSocket, body: str | None = None) -> None:
    await websocket.accept()
    arguments = WebSocketRunnerArguments(
        websocket=websocket, body=decoded(body), session_id=websocket.headers.get("x-daily-session-id")
    )
    try:
        await app.state.bot(arguments)
    except Exception:
        traceback.print_exc()


if __name__ == "__main__":
    folder, port = sys.argv[1:]
    sys.path.insert(0, folder)
    app.state.bot = importlib.import_module("bot").bot
    uvicorn.run(app, host="127.0.0.1", port=int(port), log_level="warning")
