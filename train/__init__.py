"""Programs that train and evaluate classifiers."""

import rsynth_jax.cli  # noqa: F401 - Ctrl-C may arrive while a program is imported
