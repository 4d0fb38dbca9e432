"""
How fast llmws is beside its peers: ``python -m benchmarks``.

One server process writes bytes that it made beforehand (``server``, ``payloads``). Each measured run is a client
process of its own (``clients``). ``scenarios`` says what is run, ``measure`` runs it, ``rows`` says what was
promised, ``report`` and ``plot`` show what came of it.
"""
