"""Many calls at once, in bounded memory, by callers who know how late they are.

plan       what is asked for             driver     places the calls: `Load`
calls      one of them                   echoes     where its echo is, and what of it was lost
lateness   our own                       report     what came of it, in `percentiles`
"""

from __future__ import annotations

from gateway.simulator.load.driver import Load, Progress
from gateway.simulator.load.lateness import Tolerance
from gateway.simulator.load.plan import LoadPlan, caller_audio
from gateway.simulator.load.report import LoadReport, Totals

__all__ = ["Load", "LoadPlan", "LoadReport", "Progress", "Tolerance", "Totals", "caller_audio"]
