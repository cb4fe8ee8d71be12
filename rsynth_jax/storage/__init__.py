"""Files: classifiers, checkpoints, weights that others published."""
