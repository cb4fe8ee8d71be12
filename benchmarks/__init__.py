"""Measurements of speed and quality; each file is a command: python -m benchmarks.speed.ascent."""
