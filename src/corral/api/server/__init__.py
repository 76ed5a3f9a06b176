"""The HTTP/1.1 server: uvicorn with limits on what clients send and hold open, and a stop that answers every call."""
