"""The carriers' media-stream wire, without I/O: one serializer per carrier, and the handshake they share."""
