"""The connections behind a session: which there are, what opens them, and what replaces them."""
