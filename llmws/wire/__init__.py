"""WebSocket and JSON, and nothing of any API: the floor that every API family stands on."""
