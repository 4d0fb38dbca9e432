from llmws.terminal import one_line, plain


def test_control_characters_do_not_reach_the_terminal():
    assert plain("a\x1b[31mb\x07\x9b2Jc\r\x00\x7f\x85d\tÄ\n") == "a[31mb2Jcd\tÄ\n"
    assert one_line("one\n  two\x1b\x85 \t three\n") == "one two three"
