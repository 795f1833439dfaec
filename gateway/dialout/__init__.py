"""Calls that we place: the order, its guards, its rate, and its way to the answer.

In reading order:

    request        what is asked, and what comes of it
    conductor      from a request to its answer, and the queue that is served beside
    guards         who may be called, from which number, with what
    idempotency    one key, one call
    dial_queue     calls in order and at a rate, over all nodes: the states, in one table
    shared_queue   the same in the registry, as one node uses it; job: a call to be dialled
    placing        one call: a worker, its facts, the order to its carrier
    following      one call that was ordered, to its end
    limits         of all of it
"""
