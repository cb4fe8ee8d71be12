"""Programs that train networks and evaluate classifiers."""

import rsynth_jax.cli  # noqa: F401 - Ctrl-C may arrive while a program is imported
