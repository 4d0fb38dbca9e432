"""
Deliberate breaks: each is one defect that a tired author could make, and the tests that have to notice it.

A break whose old text is gone from the source tests nothing any more, so the suite checks that each is found once.
"""

from __future__ import annotations

import attrs


__all__ = ["BREAKS", "Break"]


@attrs.frozen
class Break:
    """
    One change of the source that no test may survive.

    Attributes:
        name: What it does.
        path: Which file, from ``llmws/``.
        old: A text that the file has exactly once.
        new: What stands there instead.
        tests: The test files that must notice, from ``tests/``; a file's test after ``::``.
    """

    name: str
    path: str
    old: str
    new: str
    tests: tuple[str, ...]


CONNECTION, LINK, FRAMING = ("wire/test_connection.py", "wire/test_link.py", "wire/test_framing.py")
LANES, STREAM = ("responses/routing/test_lanes.py", "responses/stream/test_stream.py")
READING, SESSION = ("responses/routing/test_reading.py", "responses/test_session.py")
MANY, MACHINE = ("responses/routing/test_lanes_many.py", "responses/routing/test_lanes_machine.py")
TALKS, KNOWN = ("responses/routing/test_lanes_talks.py", "responses/routing/test_lanes_known.py")
STEERING = "responses/sending/test_steering.py"
RETRIES, POOL = ("responses/routing/test_refusals.py", "responses/connections/test_pool.py")

BREAKS = (
    # Reading.
    Break(
        "do not read before the first wait",
        "wire/connection.py",
        "        self._unread = True\n",
        "",
        (CONNECTION,),
    ),
    Break(
        "wait between two TLS records that have both come",
        "wire/receive.py",
        '        size += len(record)\n    return b"".join(records), None',
        '        size += len(record)\n    return b"".join(records), _DRY',
        ("wire/test_connection_tls.py",),
    ),
    Break(
        "skip what TLS has read and select() cannot see",
        "wire/receive.py",
        "_why_no_more(count, 1 if isinstance(sock, ssl.SSLSocket) else len(room))",
        "_why_no_more(count, len(room) + 1)",
        ("wire/test_connection_tls.py",),
    ),
    Break(
        "lose what came before TLS broke",
        "wire/receive.py",
        '            return b"".join(records), exc',
        '            return b"", exc',
        ("wire/test_receive.py",),
    ),
    Break(
        "drop the UTF-8 check",
        "wire/framing.py",
        "    except UnicodeDecodeError:\n        return False\n",
        "    except UnicodeDecodeError:\n        return True\n",
        (FRAMING,),
    ),
    Break(
        "drop the UTF-8 check of fragments",
        "wire/framing.py",
        "        if self._opcode == TEXT:\n            try:",
        "        if False:\n            try:",
        (FRAMING,),
    ),
    Break(
        "lose the first fragment of a message",
        "wire/framing.py",
        'b"".join(self._parts)',
        'b"".join(self._parts[1:])',
        (FRAMING,),
    ),
    Break(
        "take masked frames from a server",
        "wire/framing.py",
        "if bool(second & 0x80) == self._client:",
        "if not second & 0x80 and not self._client:",
        (FRAMING,),
    ),
    Break(
        "count the fragments of a message, but not their bytes",
        "wire/framing.py",
        "length + self._parts_bytes > self._max_message_bytes",
        "length > self._max_message_bytes",
        (FRAMING,),
    ),
    Break(
        "read on after a close",
        "wire/framing.py",
        "            ending = _parse_close(payload)\n            self._over = True\n",
        "            ending = _parse_close(payload)\n",
        (FRAMING,),
    ),
    Break(
        "lose the last message of a batch",
        "wire/link.py",
        "self._actions.append(Deliver(messages))",
        "self._actions.append(Deliver(messages[: max(1, len(messages) - 1)]))",
        (LINK, CONNECTION),
    ),
    Break(
        "stop reading while there is something to write",
        "wire/connection.py",
        "        if readable or writable or self._unread:\n            self._read()",
        "        if (readable or self._unread) and self._link.pending() is None:\n            self._read()",
        (CONNECTION, "fuzz/test_targets.py"),
    ),
    # Writing.
    Break(
        "skip the mask",
        "wire/link.py",
        "build(TEXT, given.message, mask=self._mask_key())",
        "encode(TEXT, given.message)",
        (LINK,),
    ),
    Break(
        "put a pong into the middle of a message",
        "wire/outbox.py",
        "        if self._current is None:\n            if self._control:",
        "        if self._current is None or (self._control and self._current.key is not None):\n"
        "            if self._control:",
        ("wire/test_outbox.py",),
    ),
    Break(
        "begin a short write again from its start",
        "wire/outbox.py",
        "return self._current.data[self._current.written :]",
        "return self._current.data",
        ("wire/test_outbox.py", CONNECTION),
    ),
    Break(
        "reply no pong",
        "wire/link.py",
        "pings[-_MOST_PONGS:]",
        "pings[:0]",
        (LINK,),
    ),
    Break(
        "forget to wake the I/O thread",
        "wire/connection.py",
        "self._posts.append(given)\n        if (poll := self._poll) is not None:",
        "self._posts.append(given)\n        if (poll := None) is not None:",
        (CONNECTION,),
    ),
    Break(
        "lower the bell's flag before reading it",
        "wire/poll.py",
        "            self._ear.recv(64)\n        self._rung = False",
        "            self._rung = False\n            self._ear.recv(0)",
        ("wire/test_poll.py",),
    ),
    # The link's life.
    Break(
        "forget the close code",
        "wire/link.py",
        "Lost(close.code, close.reason)",
        "Lost(1006, close.reason)",
        (LINK,),
    ),
    Break(
        "never find a link dead",
        "wire/liveness.py",
        "dead_at = max(self._ping_at, self._progress_at) + self._timeout",
        'dead_at = float("inf")',
        ("wire/test_liveness.py", LINK),
    ),
    Break(
        "count a ping's time from when it was queued",
        "wire/link.py",
        "self._liveness.ping_written(self._now)",
        "pass",
        (LINK,),
    ),
    Break(
        "forget the jitter",
        "wire/backoff.py",
        "wait = fraction * float(",
        "wait = float(",
        ("wire/test_backoff.py",),
    ),
    Break(
        "dial for nothing: ask no retry budget",
        "wire/connection.py",
        "self._jitter() if self._budget.spend() else None",
        "self._jitter()",
        (CONNECTION,),
    ),
    Break(
        "count a connection as a success, not its first useful event",
        "wire/link.py",
        "        if not self._useful_since_open:\n            self._count_failure(",
        "        if False:\n            self._count_failure(",
        (LINK,),
    ),
    Break(
        "use the socket of a dial that was given up",
        "wire/dialling.py",
        "if result.attempt != self._attempt or self._abandoned.is_set():",
        "if result.attempt != self._attempt:",
        ("wire/test_dialling.py", CONNECTION),
    ),
    Break(
        "wait for ever for a peer's close",
        "wire/link.py",
        "            return self._ending_until\n",
        "            return None\n",
        (LINK, CONNECTION),
    ),
    Break(
        "leave a lost socket open",
        "wire/connection.py",
        "            sock.shutdown(socket.SHUT_RDWR)\n        sock.close()",
        "            sock.shutdown(socket.SHUT_RDWR)",
        (CONNECTION,),
    ),
    Break(
        "share the socket: let the thread that stops the connection shut it down",
        "wire/connection.py",
        "        self._post(Stop())\n",
        "        self._post(Stop())\n"
        "        if self._sock is not None:\n            self._sock.shutdown(socket.SHUT_RD)\n",
        (SESSION,),
    ),
    # Setting up.
    Break(
        "do not check the accept key",
        "wire/upgrade.py",
        "    if not accepted:\n",
        '    if not accepted and "sec-websocket-accept" not in headers:\n',
        ("wire/test_dial.py",),
    ),
    Break(
        "keep the key in what a server quotes",
        "wire/upgrade.py",
        "secrets = (credential, *endpoint.secrets())",
        "secrets = ()",
        ("wire/test_dial.py", "secrecy/test_connecting.py"),
    ),
    Break(
        "start the deadline afresh with each byte",
        "wire/deadline.py",
        "left = self.timeout - self.elapsed()",
        "left = self.timeout",
        ("wire/test_deadline.py",),
    ),
    Break(
        "take an extension that was not offered",
        "wire/upgrade.py",
        '("sec-websocket-extensions", "sec-websocket-protocol")',
        '("sec-websocket-protocol",)',
        ("wire/test_dial.py",),
    ),
    # The log.
    Break(
        "notify one waiter only",
        "wire/monitor.py",
        "self._changed.notify_all()",
        "self._changed.notify()",
        ("wire/test_monitor.py", "wire/test_inbox.py"),
    ),
    Break(
        "drop silently what the log does not hold",
        "wire/inbox.py",
        "            )\n            return False\n",
        "            )\n            return True\n",
        ("wire/test_inbox_machine.py",),
    ),
    Break(
        "end a log twice",
        "wire/inbox.py",
        "            if self._ended:\n                return False\n",
        "",
        ("wire/test_inbox.py",),
    ),
    # Turns.
    Break(
        "deliver an event twice",
        "responses/routing/reading.py",
        "    turn.final = event\n    turn.held += (event,)",
        "    turn.final = event\n    turn.held += (event, event)",
        (READING, LANES),
    ),
    Break(
        "deliver some output twice",
        "responses/routing/reading.py",
        "reading.items += rest",
        "reading.items += [*rest, rest[-1]]",
        (READING, "fuzz/test_targets.py"),
    ),
    Break(
        "lose the last of a batch of deltas",
        "responses/routing/reading.py",
        "return Reading([*share.messages[position:]], len(share))",
        "return Reading([*share.messages[position : max(1, len(share) - 1)]], len(share))",
        (READING, "fuzz/test_targets.py"),
    ),
    Break(
        "end a turn well when the socket closes early with 1000",
        "responses/routing/lanes.py",
        "                self._finish(turn, interruption(turn, given))",
        "                self._finish(turn, None if given.code == 1000 else interruption(turn, given))",
        (LANES,),
    ),
    Break(
        "send a turn again that may be running",
        "responses/routing/lanes.py",
        "turn.state is TurnState.SENT and turn.retry_uncertain and not turn.replayed",
        "turn.state is TurnState.SENT and not turn.replayed",
        (LANES,),
    ),
    Break(
        "give the next turn the lane before the last one is drained",
        "responses/routing/books.py",
        "        self._lanes.drain(lane, turn, self._now + DRAIN_SECONDS, unaccepted=unaccepted)\n",
        "        lane.forget()\n",
        (LANES,),
    ),
    # Lanes.
    Break(
        "send a refused turn again as often as it is refused",
        "responses/routing/mending.py",
        "what is None or what in turn.remedies",
        "what is None",
        (RETRIES,),
    ),
    Break(
        "send a turn again whose output has begun",
        "responses/routing/mending.py",
        "        if not turn.before_output:\n            return False\n",
        "",
        (RETRIES, MACHINE),
    ),
    Break(
        "begin a turn on a lane where one is unfinished",
        "responses/routing/lane.py",
        "return self.turn is None and self.draining_until is None",
        "return self.draining_until is None",
        (MANY,),
    ),
    Break(
        "take a new name for each turn",
        "responses/routing/lane.py",
        "        if unkept:\n            return min(unkept",
        "        if unkept and len(self._named) == self._max_names:\n            return min(unkept",
        (MANY,),
    ),
    Break(
        "believe in what a lane cached after it was given away",
        "responses/routing/lane.py",
        "            given_away.forget()\n",
        "            pass\n",
        (TALKS,),
    ),
    Break(
        "let the source of a fork go on before the fork has begun",
        "responses/routing/lane.py",
        "lane.free and not lane.forks and told_apart",
        "lane.free and told_apart",
        (TALKS,),
    ),
    Break(
        "give the default lane what has the name of another",
        "responses/routing/lane.py",
        "        if name is not None or self.known is not False:\n            return self.find(name)\n",
        "        if self.known is not False:\n            return self.find(name) or self.default\n",
        (MANY,),
    ),
    Break(
        "mix the answers of a server without lanes",
        "responses/routing/reading.py",
        "if mixed and _begins_another(turn, event):",
        "if False:",
        (KNOWN,),
    ),
    Break(
        "end all turns with their socket, begun or not",
        "responses/routing/lanes.py",
        "            if turn.state is TurnState.QUEUED:\n                raw =",
        "            if False:\n                raw =",
        (MANY, LANES),
    ),
    Break(
        "keep a turn that waits from the pool that wants it back",
        "responses/routing/books.py",
        "        if self._owed:\n            self._give_back_some()\n",
        "",
        (KNOWN,),
    ),
    Break(
        "take an error without a lane for a refusal although others run",
        "responses/routing/doubts.py",
        "        return bool(turn.rivals)\n",
        "        return False\n",
        (MANY,),
    ),
    Break(
        "keep in doubt whose an error without a lane is",
        "responses/routing/doubts.py",
        "            turn.rivals.discard(lane)\n",
        "",
        (MANY,),
    ),
    Break(
        "free the lane of a turn that was left although a steer has a successor yet",
        "responses/routing/answers.py",
        "        if over and wait:\n",
        "        if False:\n",
        (STEERING,),
    ),
    Break(
        "free the lane of a turn whose successor did not come in time",
        "responses/routing/mending.py",
        "turn.steering is not None and turn.steering.outstanding:",
        "turn.steering is not None and False:",
        (STEERING,),
    ),
    Break(
        "show readers an error that is mended",
        "responses/routing/reading.py",
        "    turn.error_event = event\n    turn.held += (event,)\n",
        "    turn.error_event = event\n    reading.items.append(event)\n",
        (RETRIES,),
    ),
    Break(
        "never earn a second try back",
        "responses/routing/answers.py",
        "            self._actions += [Repay()] * turn.unpaid\n",
        "",
        (RETRIES,),
    ),
    Break(
        "use a socket beyond its age",
        "responses/routing/books.py",
        "expired = self._expires_at is not None and self._expires_at <= self._now",
        "expired = False",
        (MANY,),
    ),
    Break(
        "send a conversation to a connection that does not know it",
        "responses/connections/pool.py",
        "if isinstance(home, Lane) and home.cached:",
        "if False:",
        (POOL,),
    ),
    Break(
        "leave turns waiting while another connection is free",
        "responses/connections/pool.py",
        "return most if len(most.turns) > capacity else None",
        "return None",
        (POOL,),
    ),
    Break(
        "make connections without a limit",
        "responses/connections/pool.py",
        "        if len(accepting) < self._max_connections:\n",
        "        if True:\n",
        (POOL,),
    ),
    Break(
        "count the first event's limit from the turn's start",
        "responses/routing/turn.py",
        "return self.written_at, limits.first_event",
        "return self.started_at, limits.first_event",
        ("responses/routing/test_turn.py",),
    ),
    Break(
        "let a turn whose sequence has a gap pass as strict",
        "responses/routing/turn.py",
        "            self.missing_events += gap\n",
        "            gap = 0\n",
        ("responses/routing/test_turn.py", READING),
    ),
    Break(
        "swallow what a callback raises",
        "responses/stream/handlers.py",
        "self._callback_errors.append(exc)",
        "pass",
        ("responses/stream/test_handlers.py",),
    ),
    Break(
        "go on with a turn whose reader was interrupted",
        "responses/stream/stream.py",
        '            self._post_cancel("Interrupted by Ctrl-C.")\n',
        "",
        (f"{STREAM}::test_ctrl_c_in_a_reader_cancels_the_turn",),
    ),
    Break(
        "lose the place of a reader that is interrupted",
        "responses/stream/readers.py",
        "        item = batch[index]\n",
        "        self._index = index + 1\n        item = batch[index]\n",
        ("responses/stream/test_readers.py",),
    ),
    # Life in a process.
    Break(
        "forget to stop at exit",
        "wire/process.py",
        "atexit.register(_stop_at_exit)\n",
        "",
        ("wire/test_process.py",),
    ),
    Break(
        "keep the parent's sockets in a forked child",
        "wire/connection.py",
        "                    os.close(sock.detach())",
        "                    sock.detach()",
        ("wire/test_process.py",),
    ),
    Break(
        "leave the turns of a forked child without an end",
        "wire/process.py",
        "        inbox.abandon_in_child(error)",
        "        pass",
        ("wire/test_process.py",),
    ),
    Break(
        "hold the session by its own thread",
        "responses/session.py",
        "weakref.finalize(self, self._core.stop)",
        "weakref.finalize(self._core, self._core.stop)",
        (SESSION,),
    ),
    # Secrets.
    Break(
        "record a key that is cut into pieces",
        "wire/scrub.py",
        '        if isinstance(delta, (str, dict)):\n',
        "        if False:\n",
        ("wire/test_scrub.py",),
    ),
    Break(
        "show the key in the error of a refusal",
        "responses/routing/reading.py",
        'refuses = type(event) is ErrorEvent or event.type == "response.failed"',
        "refuses = False",
        (READING, LANES),
    ),
)  # fmt: skip
