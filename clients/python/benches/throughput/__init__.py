"""Parts of `spark_throughput.py`. Executors import them, too, by PYTHONPATH."""
