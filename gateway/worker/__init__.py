"""Voice bots: the public API, `gateway.worker.Call` and its events; all else in this package is machinery.

Three processes, each from its entry to what it stands on:

- The worker host: `host` (its life), `registration` (its connection to a gateway), `fleet` (its workers), with
  `watchdog` (who is stuck), `end_log` (how they end), `starts` (when to try again), `handle` (one worker) and `spawn`
  (how processes are made). `options` and `places` are what it is told and where it listens.
- The fork server: `fork_server`, `bot_loader` (imports the bot), `fork_safety` and `fork_threads` (what makes forking
  unsafe), `interpreter` (which Python, and what it sees of the environment).
- The worker: `process` (from its channel to its exit), `call_server` (the one call and its links), with
  `pcm_call_server`, where the bot speaks our protocol: `link_writer`, `conversation`, `api`; and `relay_call_server`,
  where it speaks the carrier's: `asgi_link`, `call_websocket`, `runner_arguments`, `pipecat_style`.

What all three write are lines by `logs` and `tracebacks`; `usage` measures a worker; `credentials` are for bots that
use a carrier's REST API. `pipecat` is the transport for Pipecat's bots, over `api`; `echo` says what it hears.
"""

from gateway.worker.api import Audio, Call, Dtmf, Mark, Status

__all__ = ["Audio", "Call", "Dtmf", "Mark", "Status"]
