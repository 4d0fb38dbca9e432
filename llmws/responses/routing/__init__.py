"""One connection's router: whose message it is, and what it changes in which turn; pure."""
