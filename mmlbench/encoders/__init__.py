"""Encoders shared by all methods; one class a file, registered like a method."""
