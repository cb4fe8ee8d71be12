"""Quality of the images and robustness of the classifiers."""
