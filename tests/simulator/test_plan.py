from __future__ import annotations

import numpy as np

from gateway.simulator import CallPlan


def test_the_caller_stays_as_long_as_they_talk_or_are_told() -> None:
    audio = np.zeros(12000, np.int16)
    assert CallPlan(carrier="twilio", base_url="http://h/", audio=audio).stay == 1.5
    assert CallPlan(carrier="twilio", base_url="http://h/", audio=audio, seconds=9).stay == 9
    assert CallPlan(carrier="twilio", base_url="http://h/", audio=audio).public == "http://h"
    assert CallPlan(carrier="twilio", base_url="http://h/", audio=audio, public_url="https://p").public == "https://p"
