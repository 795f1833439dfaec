"""Alembic's environment of the records: `env.py` and one file in `versions` for each change of the schema."""
