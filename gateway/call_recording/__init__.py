"""Recordings of what was said and heard: one stereo file a call."""
