"""One process: its state, what looks after it, and what it asks outside. In reading order:

- `node`: the state, handed to nearly all the rest
- `services`: what answers a call; `limits`: how long anything takes; `tokens`: session ids and stream tokens
- `worker_hosts`: the connections of worker hosts; `worker_networks`: where they may say that their workers are
- `static_workers`: workers that know nothing of us: asked how they are; `probe_schedule`: when, `probe`: how
- `overload`: whether the event loop keeps up
- `http_client`: requests to carriers' REST APIs; `worker_http`: requests that are passed on to a worker
- `dial_policy`: which numbers may be dialled
- `wire_records`: captures of what carriers and the gateway say to each other
- `urls`: URLs as they may be logged; `log_limiter`: how many lines of a kind
"""
