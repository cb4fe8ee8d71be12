"""Programs that train and evaluate classifiers."""
