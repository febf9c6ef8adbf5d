"""Benchmarks: the pipeline, a long queue, two machines, the courier, safety. `make bench`; see docs/benchmarks.md.

Nothing here is part of the package or of its tests: figures are printed beside the marks, never asserted.
"""
