"""The pages of one model: playground, code, examples, readme, versions."""
