"""
What users test with: an embedded server, rules that answer, recordings that replay.

Importing this needs nothing but llmws itself.
"""

from . import faults, rules
from .answer import Answer, error_event
from .ledger import Entry, Ledger, fingerprint
from .proxy import FaultProxy
from .record import record
from .request import Connection, Event, Request, Rule
from .semantics import Semantics
from .server import Server


__all__ = [
    "Answer",
    "Connection",
    "Entry",
    "Event",
    "FaultProxy",
    "Ledger",
    "Request",
    "Rule",
    "Semantics",
    "Server",
    "error_event",
    "faults",
    "fingerprint",
    "record",
    "rules",
]
