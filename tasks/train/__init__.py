"""train: fit a causal language model to packed tokens, on a CPU or one GPU, resumable exactly."""
