"""The embedded CPU engine: a Llama checkpoint as published, run by OpenVINO GenAI inside the worker process."""
