"""Text to token ids and back, for Llama 2. Pure: no HTTP, no engine, no clock."""
