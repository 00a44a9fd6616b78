"""Timings, as ratios within one run. What they taught is in LOG.md."""
