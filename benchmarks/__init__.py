"""What is measured, against whom; each file runs on its own: python -m benchmarks.NAME."""
