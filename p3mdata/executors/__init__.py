"""Where shards run. Every executor calls `shards.run_shard` and nothing else; progress is read from the run folder."""
