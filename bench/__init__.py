"""Benchmarks of the whole service, beside the bare work in the same run. `make bench`; see docs/benchmarks.md.

Nothing here is part of the package or of its tests: figures are printed beside the marks, never asserted.
"""
