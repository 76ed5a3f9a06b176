"""OpenAI's chat completions, completions and models, with the extensions of DeepInfra's OpenAI routes."""
