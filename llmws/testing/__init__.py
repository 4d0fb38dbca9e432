"""
What users test with: an embedded server, rules that answer, recordings that replay.

Importing this needs nothing but llmws itself.
"""

from . import rules
from .answer import Answer, error_event
from .ledger import Entry, Ledger, fingerprint
from .record import record
from .request import Connection, Event, Request, Rule
from .server import Server


__all__ = [
    "Answer",
    "Connection",
    "Entry",
    "Event",
    "Ledger",
    "Request",
    "Rule",
    "Server",
    "error_event",
    "fingerprint",
    "record",
    "rules",
]
