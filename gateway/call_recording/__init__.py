"""Recordings of what was said and heard: one stereo file a call.

In reading order: `recorder` (what the media path appends to), `writer` (the thread that writes all of them), `folder`
(names, what is being written, what a killed process left), `spool` (the form of what is being written), `convert` (from
that to a file), over `tracks` (the two sides in time) and `files` (FLAC and WAV).
"""
