"""Tasks: what to climb, inside which set, from which start."""
