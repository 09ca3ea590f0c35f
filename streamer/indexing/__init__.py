"""Parts of the indexer: its memory, searches in it, commits and snapshots."""
