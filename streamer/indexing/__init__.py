"""Parts of the indexer: searches, commits and snapshots."""
