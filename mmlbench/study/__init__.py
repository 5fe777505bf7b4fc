"""A study: its config, its plan, and what is asked of it while it runs."""
