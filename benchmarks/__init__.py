"""The measurements behind every figure of README and docs: scripts by topic, each with its table of results.

Run them as modules from the root of the repository, as in ``python -m benchmarks.engine.engine table``.
"""
