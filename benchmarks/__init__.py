"""One question each: the answer is checked, then timed against a peer in the same run.

Run as ``python -m benchmarks.NAME``.
"""
