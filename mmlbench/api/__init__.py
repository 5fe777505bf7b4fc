"""The Python interface: `import mmlbench as mb`, then `mb.train_run(...)` and `mb.load("results")`.

The command line parses and calls these functions. Tables come as pandas DataFrames; nothing here imports torch
before a run has to be trained. Progress goes to the logger `mmlbench` of Python's `logging`::

    import logging
    logging.basicConfig(level=logging.INFO, format="%(message)s")
"""
