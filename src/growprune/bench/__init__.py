"""Latency beside other engines', for `growprune bench` and the benchmarks."""
