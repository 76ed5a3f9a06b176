"""The ``logs`` field of a prediction. Append-only; built from the prediction alone.

The lines are those of Replicate's last Llama 2 code. What is known at the start stands first.
"""

from corral.core.prediction import Prediction

PERFORMANCE = "log_performance_metrics"
"""Note that asks for the last four lines."""


def logs(prediction: Prediction) -> str:
    """Lines known so far; none before the engine has started the run, and none after the text was removed."""
    removed = prediction.data_removed and prediction.status.terminal
    if prediction.seed is None or prediction.admitted_at_ms is None or removed:
        return ""
    lines = [
        f"Random seed used: `{prediction.seed}`",
        "Note: Random seed will not impact output if greedy decoding is used.",
    ]
    prompt = _formatted_prompt(prediction)
    if prompt is not None:
        lines.append(f"Formatted prompt: `{prompt}`")
    if prediction.status.terminal and (prediction.notes or {}).get(PERFORMANCE):
        lines += _performance(prediction, prediction.admitted_at_ms)
    return "\n".join(lines) + "\n"


def _formatted_prompt(prediction: Prediction) -> str | None:
    """Prompt as the model read it; None if it was removed or was token ids."""
    if prediction.input is None:
        return None
    return prediction.input["request"]["prompt"].get("raw", {}).get("text")


def _performance(prediction: Prediction, admitted_at_ms: int) -> list[str]:
    completed_at_ms = prediction.completed_at_ms or admitted_at_ms
    started_at_ms = prediction.started_at_ms or completed_at_ms
    took_s = (completed_at_ms - admitted_at_ms) / 1000
    tokens = prediction.completion_tokens
    return [
        f"Tokens processed: {tokens}",
        f"Serverside tokens per second: {tokens / took_s if took_s else 0:.2f}",
        f"Serverside execution time: {took_s:.2f} seconds",
        f"Serverside time to first token: {(started_at_ms - admitted_at_ms) / 1000:.2f} seconds",
    ]
