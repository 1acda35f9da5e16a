"""Scripts that measure the testbed, each against a baseline taken in the same run: `python -m benchmarks.NAME`."""
