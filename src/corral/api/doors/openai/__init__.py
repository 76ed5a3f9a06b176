"""OpenAI's chat completions, with the extensions that DeepInfra's route of that name has."""
