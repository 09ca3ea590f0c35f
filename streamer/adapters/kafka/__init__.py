"""Everything that knows aiokafka: connection, consumer-group source, batching sink, changelog reader, topic admin."""
