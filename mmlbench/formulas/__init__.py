"""What several methods compute: pure functions, a module per concept, listed in docs/formulas.md.

A module counts as code of the methods that import it, and of no other.
"""
