"""The registry: which session is served by which worker, and what nodes share beside that.

In reading order:

    registry          the interface: a claim's states, leases, and what each method promises
    memory.registry   the same in one process: the rules in plain Python
    redis.registry    the same for many nodes: each step is a Lua script, its keys are listed in common.lua
    client            the registry as a node uses it: deadlines, avoided workers, claims in flight
    facts             what is known of a session, and how events change it
    outage, breaker   when the registry was away; whether it is asked now
    runtime_timeout   a deadline that counts only time in which this process ran
"""
