"""Programs that make images, one task each."""

import rsynth_jax.cli  # noqa: F401 - Ctrl-C may arrive while a program is imported
