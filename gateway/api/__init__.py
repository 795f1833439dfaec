"""The REST API, `/v1` and `/start`: models, keys, problems, routes."""
