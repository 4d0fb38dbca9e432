"""
What a conversation with tools costs, beside the same conversation of others: ``python -m benchmarks.chain``.

``talk`` says what is talked about, on both sides. The server is the library's embedded one behind a proxy that holds
every byte for half a round trip; each measured conversation is a process of its own (``clients``). ``measure`` runs
them, ``report`` shows what came of it.
"""
