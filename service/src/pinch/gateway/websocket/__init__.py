"""The WebSocket gateway: OpenClaw's frames, protocol 3 and 4 (docs/websocket.md)."""
