"""The files of a run's folder."""

CONFIG, ENV, SUMMARY = "config.yaml", "env.json", "summary.json"
REQUESTS, INSTANCES, JOURNAL = "requests.parquet", "instances.parquet", "journal.jsonl.zst"
