import copy

from hypothesis import given
from hypothesis import strategies as st

from llmws.testing.context import Context, items_of, tokens_in


def message(name, **fields):
    return {"type": "message", "id": name, **fields}


def test_a_text_is_a_message_and_a_list_is_itself():
    assert items_of("Hi") == [{"type": "message", "role": "user", "content": "Hi"}]
    assert items_of([message("a")]) == [message("a")]
    assert items_of(None) == items_of(7) == []


@given(
    st.lists(st.tuples(st.integers(0, 20), st.lists(st.integers(-3, 3), max_size=3)), max_size=20)
)
def test_every_context_stays_what_it_was_whoever_continues_it(steps):
    """Contexts share a list: each of them must equal a plain copy, in whatever order they are continued."""
    contexts, plain = [Context()], [[]]
    for which, numbers in steps:
        base = which % len(contexts)
        items = [message(f"i{number}", n=number) for number in numbers]
        contexts.append(contexts[base].extended(items))
        plain.append([*plain[base], *copy.deepcopy(items)])
    assert [context.items for context in contexts] == plain
    assert [len(context) for context in contexts] == list(map(len, plain))
    for context, items in zip(contexts, plain, strict=True):
        assert context.tokens == sum(map(tokens_in, items))
        held = {item["id"] for item in items}
        for number in range(-3, 4):
            name = f"i{number}"
            assert context.twice([message(name)]) == (name if name in held else None)


def test_a_chain_is_not_copied_to_be_continued():
    context = first = Context([message("m")])
    for number in range(50):
        context = context.extended([message(f"m{number}")])
    assert context._chain is first._chain
    assert first.extended([message("other")])._chain is not first._chain


def test_an_id_counts_twice_within_new_items_too_but_not_as_a_reference():
    context = Context([message("a")])
    assert context.twice([message("b"), message("b")]) == "b"
    assert context.twice([{"type": "item_reference", "id": "a"}, {"no": "id"}, "x"]) is None
