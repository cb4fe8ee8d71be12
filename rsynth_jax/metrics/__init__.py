"""Image quality: functions of feature arrays (n, d) in NumPy, or of image pairs in JAX (`paired`).

    estimate = frechet_estimate(generated, real)
    print(estimate.value, estimate.low, estimate.high)

`rsynth_jax.storage.extractors` loads the networks that compute features.
"""
