"""Pipecat is not in everyone's environment: without it nothing here is collected."""

from __future__ import annotations

import atexit
import os
import shutil
import tempfile
from importlib.util import find_spec
from pathlib import Path

import pytest

collect_ignore_glob = [] if find_spec("pipecat") else ["test_*.py"]


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("filterwarnings", "ignore:'audioop' is deprecated:DeprecationWarning")


# Pipecat 1.3 fetches this from GitHub as it is imported, unless it is there; nothing here needs what is in it.
_nltk = Path(tempfile.mkdtemp(prefix="gw-nltk-"))
atexit.register(shutil.rmtree, _nltk, ignore_errors=True)
(_nltk / "tokenizers" / "punkt_tab").mkdir(parents=True)
os.environ["NLTK_DATA"] = str(_nltk)
