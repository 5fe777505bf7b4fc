"""The version of this package, where every floor can reach it."""

__version__ = "0.2.0"
