"""A change of the model while the stream goes on, pure: who has decided what, and which model answers."""
