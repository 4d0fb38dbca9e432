import hashlib
import json

from hypothesis import given
from hypothesis import strategies as st

from llmws.testing.nonces import nonce_in, nonce_pieces, nonce_text


NONCES = st.text("abcdef0123456789-_", min_size=1, max_size=20)


def test_a_nonce_is_found_in_a_text():
    assert nonce_in("Please go on. nonce 7f3a, and be quick") == "7f3a"
    assert nonce_in("nonce=a-b_c") == nonce_in("nonce: a-b_c") == "a-b_c"
    assert nonce_in("pronounced") is nonce_in("") is nonce_in("nonce") is None


@given(NONCES, st.integers(0, 60))
def test_the_pieces_join_to_the_text_and_no_two_are_alike(nonce, deltas):
    pieces = nonce_pieces(nonce, deltas)
    assert "".join(pieces) == nonce_text(nonce, deltas)
    assert len(set(pieces)) == deltas
    assert all(9 <= len(piece) <= 30 for piece in pieces)


@given(NONCES, NONCES, st.integers(2, 30), st.data())
def test_a_lost_a_doubled_a_swapped_or_a_foreign_piece_changes_the_text(nonce, other, deltas, data):
    pieces = nonce_pieces(nonce, deltas)
    index = data.draw(st.integers(0, deltas - 1))
    lost = pieces[:index] + pieces[index + 1 :]
    doubled = pieces[: index + 1] + pieces[index:]
    swapped = [pieces[-1], *pieces[1:-1], pieces[0]]
    foreign = [*pieces[:index], nonce_pieces(other, deltas)[index], *pieces[index + 1 :]]
    bad = [lost, doubled, swapped, *([foreign] if other != nonce else [])]
    assert nonce_text(nonce, deltas) not in ["".join(each) for each in bad]


def test_the_text_is_the_same_on_every_run_and_hard_to_carry():
    text = nonce_text("7f3a", 100)
    assert hashlib.sha256(text.encode()).hexdigest()[:8] == "ddc98a10"
    assert {"é", "水", "🙂", "\n", '"', "\\"} <= set(text)
    assert json.loads(json.dumps(text)) == text
