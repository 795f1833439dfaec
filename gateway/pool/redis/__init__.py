"""The registry of many nodes, on one Redis.

In reading order:

    registry        hosts and claims; what this node remembers of its own
    shared_state    facts, keys, texts and messages
    client          the way to the server: deadlines, breaker, one question at a time for each turn
    codec           what is written, and what answers mean
    scripts         `lua/`: common.lua has the keys and what all scripts stand on; claim, confirm, renew, release follow
                    the states of a claim; restore.lua enters running calls
"""
