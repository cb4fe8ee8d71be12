"""Programs that train and judge classifiers."""
