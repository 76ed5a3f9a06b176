"""Chat formats as data: the formats, the renderer, their recognition, and the encoder of prompts."""
