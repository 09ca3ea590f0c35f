"""Text events in, embedding vectors out."""

__version__ = "0.1.0"
