"""The history of calls: one truthful record each, in the user's database."""
