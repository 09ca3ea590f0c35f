"""Fakes of the embedding services: strict where the services are strict, and as unreliable as a test asks for."""
