"""Runs: a folder of photographs becomes a run folder, in shards that can be resumed, merged and proved."""
