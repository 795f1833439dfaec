"""`gateway serve`: one process from bind to drain. In reading order:

- `supervisor`: the parent of several gateway processes; `inheritance`: what each is given by it
- `server`: one process: what is started, in which order, and how it is let go
- `app`: the node made of settings, and the HTTP routes; `routes`, `unrouted`: their forms, and wrong paths
- `drain`: how it ends
- `local_hosts`: worker hosts that the gateway starts itself
- `record_keeping`: records, events and what looks after them, opened and closed
- `http_protocol`: bounds of HTTP itself; `listening`: sockets; `browser_guard`: what --dev takes from web pages
- `ops`: metrics and health, on an address of its own
"""
