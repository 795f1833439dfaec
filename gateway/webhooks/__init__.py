"""What carriers ask by HTTP, a module for each route. In reading order:

- `receive`: every webhook first: verified, parsed, its session found
- `voice`: `/voice`: a call rings, or one of ours was answered; a worker is reserved
- `answers`: what a carrier is told: to open a stream, or what it gets where there is no bot
- `resume`: `/resume`: a stream has ended, and the carrier asks what is next
- `dial`: the number of a transfer, for a carrier that asks for it at a route of its own
- `status`: `/status`, `/stream`: what the carrier says has happened
- `move`: a running call that is led to `/voice` for another service
- `call_facts`: what a webhook says of its call, as facts
"""
