"""The TLS of connections that we open."""

from __future__ import annotations

import functools
import ssl


@functools.cache
def client_tls_context() -> ssl.SSLContext:
    """Return the context for links and requests to workers: it trusts what the machine trusts. One for the process.

    To make one reads all of the machine's authorities, for about 20 ms: in the event loop every call would hear that,
    so `serve` makes it before the first. Authorities that are added to the machine later count from the next start.
    """
    context = ssl.create_default_context()
    context.set_alpn_protocols(["http/1.1"])  # as httpx does to every context that it is given: then it changes nothing
    return context
