"""A conversation: turns that follow each other, of which each sends only what the server lacks."""
