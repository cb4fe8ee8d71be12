"""Programs that make images, one task each."""
