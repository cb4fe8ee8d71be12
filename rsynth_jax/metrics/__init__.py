"""How good are images? Pure functions of feature arrays (n, d), each with its 95 % interval.

    estimate = frechet_estimate(generated, real)
    print(estimate.value, estimate.low, estimate.high)

`frechet`, `kernel`, `inception_score` and `neighbors` compare two sets, in NumPy; `paired` compares one image
with another, in JAX. What makes features of images is `rsynth_jax.storage.extractors`.
"""
