"""Where shards run. Executors call `staging.bring_shard` and nothing else; progress is read from the run folder."""
