"""Tools that a model may call: what it is told of them, running its calls, and the loop around both."""
