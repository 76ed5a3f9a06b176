"""HTTP/1.1 server: uvicorn with limits on connections, and a graceful stop that answers every open request."""
