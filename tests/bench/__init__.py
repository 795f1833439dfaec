"""What it costs, measured on this machine in one run: `make bench`, or `python -m tests.bench [PART …]`.

Absolute figures move from machine to machine, and with whatever else runs on it: compare only within one run. Not
collected by pytest: nothing here passes or fails.
"""
