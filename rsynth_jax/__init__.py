"""Climb an objective, inside a set, from a start: image synthesis with one robust classifier.

A training method is a pair (adversary, loss); a synthesis task is a triple (start, objective,
projection); one gradient ascent in input space serves both.
"""

__version__ = "0.1.0"
