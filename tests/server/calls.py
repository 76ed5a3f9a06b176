"""The same greedy request through each API."""

from dataclasses import dataclass
from typing import Any

TOKENS = 24
DOORS = ("openai", "deepinfra", "replicate")


@dataclass(frozen=True, slots=True)
class Call:
    """A greedy request to one model through one API."""

    model: str
    door: str
    prompt: str

    @property
    def request(self) -> tuple[str, dict[str, Any]]:
        """Path and body."""
        raw = f"[INST] {self.prompt} [/INST]"
        match self.door:
            case "openai":
                messages = [{"role": "user", "content": self.prompt}]
                body = {"model": self.model, "messages": messages, "max_tokens": TOKENS, "temperature": 0}
                return "/v1/chat/completions", body
            case "deepinfra":
                body = {"input": raw, "max_new_tokens": TOKENS, "temperature": 0, "repetition_penalty": 1}
                return f"/v1/inference/{self.model}", body
            case _:
                given = {"prompt": self.prompt, "system_prompt": "", "max_tokens": TOKENS, "temperature": 0}
                return f"/v1/models/{self.model}/predictions", {"input": given}

    def text(self, answer: dict[str, Any]) -> str:
        """The answer's text."""
        match self.door:
            case "openai":
                return answer["choices"][0]["message"]["content"]
            case "deepinfra":
                return answer["results"][0]["generated_text"]
            case _:
                assert answer["status"] == "succeeded", answer
                return "".join(answer["output"])
