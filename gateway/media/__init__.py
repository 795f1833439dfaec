"""One call's audio, between the carrier's stream and the bot's link.

Nothing here awaits, and time is an argument.

In reading order:

- `endpoints`: from each WebSocket to the bridge, one step. `ticker`: the 20 ms clock of all bridges.
- `bridge`: joins a stream and a link by PCM; `relay`, in its place: passes the carrier's own messages through,
  with `relayed_marks` (those that the carrier has not answered). `types`: what both are given, and what they tell the
  session.
- The caller's way to the bot: `caller_audio`, with `backlog` (while there is no bot) and `caller_clock` (silence for
  what did not come).
- The bot's way to the caller: `playing` (a stream with its transcoders), `playout` (what is still to be heard) and
  `excess_delay` (delay that nothing means). Behind the speech: `playback_barriers` and `deferred`.
- Without a bot: `hold`, and `relay_hold` for a relay. `keepalive`: whether both ends are still there.
- `recording_tap`: where the recording listens.
"""
