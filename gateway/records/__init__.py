"""The history of calls: one truthful record each, in the user's database.

In reading order:

    base           what the rest of the gateway needs: where facts are noted, what a record is
    row            what is kept of a call, and the join by which it grows
    writer         facts from calls, written in batches; upsert: one transaction; events: what it gives rise to
    store          records that are read, forgotten and deleted
    upkeep         calls without more news, and records without a future
    beats          which nodes live; unknown_ends: what carriers say of calls whose node died
    removals       recordings that every node is to remove
    schema         the tables; database, clock: the engine and its time; migrations: how tables came to be
"""
