"""Subinterpreters have no daemon threads: an error that says so, and no hang."""

from __future__ import annotations

from tests.processes.programs import output_of, start


PROGRAM = """
try:
    import _interpreters as interpreters
except ImportError:
    import _xxsubinterpreters as interpreters
import os, sys

interpreter = interpreters.create()

def run(source):
    problem = interpreters.run_string(interpreter, source)
    assert problem is None, problem
    sys.stdout.flush()
    # Not through the end of the interpreters, where Python 3.12 crashes if one of them has imported ssl or hashlib.
    os._exit(0)

run('''
import llmws
session = llmws.Session("m", base_url="http://127.0.0.1:9/v1", api_key="none")
try:
    session.create("Hi")
except llmws.ConnectError as error:
    print(error, flush=True)
session.close()
''')
"""


def test_a_turn_in_a_subinterpreter_is_refused_in_words():
    assert output_of(start("-c", PROGRAM)).startswith("No thread for the connection: ")
