"""What the papers claim of merging, tried on a zoo small enough to train in minutes: `python -m benchmarks.claims`."""
