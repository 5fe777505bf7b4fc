"""Training: the one loop, its data, its evaluation and the writing of a run folder.

Imports only torch and numpy beyond the standard library (torchvision where the encoder needs it), so that it
also runs on a bare GPU machine.
"""
