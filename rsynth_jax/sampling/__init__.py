"""An ascent or a network applied to many images, batch by batch over all devices."""

from rsynth_jax.models.embedding import Embedding, embed, predict
from rsynth_jax.sampling.runner import Rows, Samples, Summary, sample

__all__ = ["Embedding", "Rows", "Samples", "Summary", "embed", "predict", "sample"]
