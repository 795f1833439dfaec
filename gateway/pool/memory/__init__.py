"""The registry of one process.

In reading order:

    registry        hosts, claims, and what expires: each method is one step
    hosts           one host: its workers, and the claims on it
    hold_queue      sessions on hold; slot_notifier: wakes them
    attempts        attempt numbers and last fences, which outlive claims
    shared_state    facts, keys, texts and messages: fact_store, once_keys, texts, mailboxes
    expiry          deadlines of all of these
"""
