"""The tones by which the bots of `tone.py` are told apart: number `pid % TONES` of these.

Pids of workers that follow each other differ by less than TONES.
"""

LOWEST, STEP, TONES = 400, 25, 100
"""Hz, Hz, and how many."""
