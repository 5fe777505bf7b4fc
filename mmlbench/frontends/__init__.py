"""Front ends: how datasets turn raw files, or random numbers, into arrays; over half of the files serve one dataset.

They lie in the package, not beside the datasets, because each file of `datasets/` is one dataset. A run's code counts
them: an edit here makes the caches of the datasets that import the file stale, and no others.
"""
