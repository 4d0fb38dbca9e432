"""The OpenAI Responses API in WebSocket mode."""
