"""The vector cache in an SQLite file."""

from streamer.adapters.sqlite.cache import SqliteStatistics, SqliteVectorCache
from streamer.adapters.sqlite.upkeep import CacheContents, read_contents

__all__ = ["CacheContents", "SqliteStatistics", "SqliteVectorCache", "read_contents"]
