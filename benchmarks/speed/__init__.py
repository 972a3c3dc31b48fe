"""The speed suite: how fast gbdt2nn attributes, against the boosters' own exact call and against other libraries.

Each measurement runs in a process of its own with one thread for every library, and leaves one record.
"""

SUITE = "speed"
