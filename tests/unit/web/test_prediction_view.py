"""Contents of a prediction's page."""

import json
from dataclasses import replace

import pytest

from corral.core.prediction import Prediction, Status, StoppedBy
from corral.web.dashboard import prediction_view

MADE_MS = 1_767_268_800_000
DONE = Prediction(
    id="0" * 26, account_id="acct_a", key_id="key_a", door="openai", model="a/b", version="int8",
    status=Status.SUCCEEDED, background=False, created_at_ms=MADE_MS, input={"shown": {"prompt": "Hi <b>"}},
    output=[["Hel", "lo."]], data_removed=False, error=None, seed=7, prompt_tokens=1234, completion_tokens=21,
    hold_nusd=0, cost_nusd=92_500, stopped_by=StoppedBy.MODEL, receipt={}, started_at_ms=MADE_MS + 250,
    completed_at_ms=MADE_MS + 1250, admitted_at_ms=MADE_MS + 50,
)  # fmt: skip
RUNNING = replace(DONE, status=Status.PROCESSING, cost_nusd=None, stopped_by=None, receipt=None, completed_at_ms=None)


def figures(prediction: Prediction) -> dict[str, str]:
    return {metric.name: metric.value for metric in prediction_view.metrics(prediction)}


def test_the_figures_of_a_prediction_that_is_over() -> None:
    assert figures(DONE) == {
        "Generated in": "1.20 s",
        "First token after": "0.25 s",
        "Input tokens": "1,234",
        "Output tokens": "21",
        "Tokens per second": "17.50 tokens / second",
        "Cost": "$0.0000925",
    }


def test_unknown_figures_have_placeholders() -> None:
    assert list(figures(RUNNING)) == list(figures(DONE))
    unknown = [name for name, value in figures(RUNNING).items() if value == prediction_view.UNKNOWN]
    assert unknown == ["Generated in", "Tokens per second", "Cost"]


def test_zero_duration_gives_no_rate() -> None:
    assert figures(replace(DONE, completed_at_ms=DONE.admitted_at_ms))["Tokens per second"] == prediction_view.UNKNOWN


def test_log_lists_events_in_order() -> None:
    assert [(line.after_s, line.text) for line in prediction_view.log_lines(DONE)] == [
        ("0.00", "Accepted through the openai door."),
        ("0.05", "Taken up by the engine; seed 7."),
        ("0.25", "First token."),
        ("1.25", "Succeeded: the model ended its answer."),
    ]
    assert [line.text for line in prediction_view.log_lines(RUNNING)][-1] == "First token."


@pytest.mark.parametrize("reason", StoppedBy)
@pytest.mark.parametrize("status", [Status.SUCCEEDED, Status.FAILED, Status.CANCELED])
def test_every_final_status_has_a_label(status: Status, reason: StoppedBy) -> None:
    last = prediction_view.log_lines(replace(DONE, status=status, stopped_by=reason))[-1].text
    assert last.lower().startswith(f"{status}: ")


def test_purged_text_is_labelled() -> None:
    assert prediction_view.text_gone(DONE) is None
    gone = replace(DONE, input=None, output=None, data_removed=True)
    assert "not stored" in (prediction_view.text_gone(gone) or "")
    assert "privacy mode" in (prediction_view.text_gone(replace(gone, status=Status.PROCESSING)) or "")
    document = json.loads(prediction_view.document(gone))
    assert (document["input"], document["output"], document["data_removed"]) == (None, None, True)


def test_json_document_equals_the_page() -> None:
    document = json.loads(prediction_view.document(DONE))
    assert document["input"] == {"prompt": "Hi <b>"}
    assert document["output"] == ["Hello."]
    assert document["created_at"] == "2026-01-01T12:00:00.000Z"
    assert document["usage"] == {"prompt_tokens": 1234, "completion_tokens": 21, "cost_usd": "0.0000925"}


def test_a_conversation_is_shown_in_turns_and_everything_else_as_it_is() -> None:
    said = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Hi"}]
    asked = {"messages": said, "temperature": 0.5, "stop": ["a"], "user": "ann"}
    fields = prediction_view.input_fields(replace(DONE, input={"shown": asked})) or []
    assert [(field.name, field.turns) for field in fields] == [
        ("messages", (("system", "Be brief."), ("user", "Hi"))),
        ("temperature", ()),
        ("stop", ()),
        ("user", ()),
    ]
    assert [field.text for field in fields[1:]] == ["0.5", '[\n  "a"\n]', "ann"]
    assert prediction_view.input_fields(replace(DONE, input=None)) is None


@pytest.mark.parametrize("messages", ["Hi", [1], [{"role": "user"}], [{"role": "user", "content": [{"text": "Hi"}]}]])
def test_what_is_no_plain_conversation_is_shown_as_json(messages: object) -> None:
    fields = prediction_view.input_fields(replace(DONE, input={"shown": {"messages": messages}})) or []
    assert [field.turns for field in fields] == [()]
