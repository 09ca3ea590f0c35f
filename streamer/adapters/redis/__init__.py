"""What workers on several machines share, in Redis or Valkey: the vector cache."""

from streamer.adapters.redis.cache import RedisStatistics, RedisVectorCache, SharedContents, clear, contents_of
from streamer.adapters.redis.link import RedisLink

__all__ = ["RedisLink", "RedisStatistics", "RedisVectorCache", "SharedContents", "clear", "contents_of"]
