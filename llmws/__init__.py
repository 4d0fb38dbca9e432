"""Large language models over WebSockets, for plain synchronous Python."""
