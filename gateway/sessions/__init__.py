"""One conversation: its streams, its worker, its end.

Who owns whom, and who runs. Two tasks serve a session: its own, and its worker's. Audio enters neither.

    Sessions ── Session ─┬─ CurrentBridge ── Bridge or Relay (gateway.media), SessionRecording
                 │       └─ WorkerLink ── acquire_worker ── open_link
                 └─ ClientSession: a client of the user's own, without a carrier

In reading order:

    session           the conversation: what wakes it, and what each event means
    events            those events; event_queue: how many may wait
    worker_link       its worker: found, joined, lost, replaced
    worker_search     from a claim to an open link
    open_link         the upgrade that a worker gets; preconnect: opened at the webhook already
    bot_end           what a closed link means, and which workers are avoided then
    bot_news          what a bot is told of its call behind `start`
    bot_state         what a bot leaves for its successor; bot_wait: how long its caller has waited
    current_bridge    the bridge of the protocol that the bot speaks; recording: what it records
    commands          what no stream can carry: a continuation, which the carrier asks for when the stream has ended
    last_facts        what a session's end adds to its facts; transferred, ask_outcome: what is learned after it
    facts_sync        the facts, here and in the registry; latest_fact: those that change often
    duration_limit    the longest call
    table             what runs in this process
    lease_renewal     what is done by the clock for all that runs
    orders            what an operator wants, in this process; control: on whichever node; node_messages: between nodes
    hearing           whether a carrier still sends; carrier_rest: hang up by its REST API
    client_session    a client's session
"""
