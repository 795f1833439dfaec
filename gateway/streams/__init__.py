"""Carriers' WebSockets, from the upgrade until a session has them. In reading order:

- `authorize`: who may open a WebSocket, and what it is: a stream, a client, a worker host
- `handshake`: the stream's messages up to `start`, and what comes before it is admitted
- `admission`: whether the stream is what it says, and its session, found or made
- `url_body`: the bot's body in the URL of a static stream
"""
