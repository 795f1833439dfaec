"""The carriers' media-stream wire, without I/O.

One serializer per carrier, and the handshake they share.
"""
