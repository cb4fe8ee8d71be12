"""Data sets and image files, and the order in which training sees them."""
