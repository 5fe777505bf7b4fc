"""Kinds of inputs; one class a file, registered like a method."""
