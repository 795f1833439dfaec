"""What happens to calls, told to the user's own systems: signed, in order, at least once.

In reading order:

    outbox        all endpoints of a process
    table         the rows: order of a call's events, leases between nodes
    queue         one endpoint: what is due, how many at once, whether it is down
    sender        one attempt by HTTP; signing: its headers; endpoint: where to, with which secrets
    verdict       what an answer means for the event
    undelivered   what has not arrived: listed, replayed, removed
    live          the same events for pages that watch
"""
