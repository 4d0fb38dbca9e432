"""What a user holds of one turn: a stream, its views, its callbacks and its response."""
