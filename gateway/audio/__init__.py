"""Audio: its formats, and what is made of samples.

In reading order: `format`, `g711` and `resample`; `transcoder`, which joins them; `concealment` of what was lost;
`quiet`, which tells silence; `files`, whole ones.
"""
