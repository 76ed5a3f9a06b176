"""Answer ids of the APIs map back to prediction ids."""

import re

from hypothesis import given
from hypothesis import strategies as st

from corral.api.answer_ids import hex_id, prediction_ids, request_id
from corral.service.runs.journal import new_prediction_id

PREDICTION_IDS = st.text("0123456789abcdefghjkmnpqrstvwxyz", min_size=26, max_size=26)


@given(PREDICTION_IDS)
def test_answer_ids_round_trip(prediction_id: str) -> None:
    assert re.fullmatch(r"R[0-9A-Za-z]{23}", request_id(prediction_id))
    assert re.fullmatch(r"[0-9a-f]{32}", hex_id(prediction_id))
    assert prediction_ids(request_id(prediction_id)) == (prediction_id,)
    assert prediction_id in prediction_ids(f"chatcmpl-{hex_id(prediction_id)}")
    assert prediction_id in prediction_ids(f"cmpl-{hex_id(prediction_id)}")
    assert prediction_ids(prediction_id) == (prediction_id,)


@given(st.text(max_size=40))
def test_other_ids_are_not_prediction_ids(text: str) -> None:
    assert all(re.fullmatch(r"[0-9a-hjkmnp-tv-z]{26}", each) for each in prediction_ids(text))


def test_the_ids_of_new_predictions_are_taken() -> None:
    made = new_prediction_id()
    assert prediction_ids(request_id(made)) == (made,)
