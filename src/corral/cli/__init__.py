"""Commands. They call the HTTP API or start the server, and hold no logic of their own."""
