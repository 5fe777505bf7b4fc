"""Front ends: how several datasets turn raw files, or random numbers, into arrays; what one alone uses lies with it.

A run's code counts them: an edit here makes the caches of the datasets that import the file stale, and no others.
"""
