"""Receipts of every format that was ever written still verify, and nothing in one can be changed unseen."""

from dataclasses import replace

import pytest

from corral.core.pricing import RECEIPT_FORMAT, Receipt, tokens_digest, verify

FIRST_FORMAT = {
    "format": 1,
    "prediction_id": "7d0m",
    "account_id": "acct_1",
    "model": "meta/llama-2-70b-chat",
    "price_version": "meta/llama-2-70b-chat@2023-07-18",
    "input_nusd": 650,
    "output_nusd": 2750,
    "prompt_tokens": 100,
    "completion_tokens": 10,
    "total_nusd": 92500,
    "stopped_by": "model",
    "tokens_digest": "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
    "completed_at_ms": 1700000000000,
    "digest": "51f1dc5c6c9f191a9a01934b1f6eabe0760d11b3a0e92302c2e8b726985f8648",
}
"""As the version that knew format 1 alone wrote it."""
NOW = Receipt(
    format=RECEIPT_FORMAT,
    prediction_id="7d0m",
    account_id="acct_1",
    model="meta/llama-2-70b-chat",
    price_version="meta/llama-2-70b-chat@2023-07-18",
    input_nusd=650,
    output_nusd=2750,
    prompt_tokens=100,
    completion_tokens=10,
    total_nusd=92500,
    stopped_by="model",
    tokens_digest=tokens_digest([range(10)]),
    completed_at_ms=1700000000000,
    weights_id="9f3c:int4",
)


def test_a_stored_receipt_of_the_first_format_still_verifies() -> None:
    assert verify(FIRST_FORMAT) == []
    assert verify(FIRST_FORMAT | {"prompt_tokens": 99}) != []


def test_the_weights_are_part_of_what_a_receipt_attests() -> None:
    document = NOW.as_dict()
    assert verify(document) == []
    assert verify(document | {"weights_id": "9f3c:int8"}) == ["The digest does not match the receipt's content."]
    assert verify(replace(NOW, weights_id=None).as_dict()) == []


def test_a_receipt_of_the_second_format_without_weights_is_incomplete() -> None:
    document = NOW.as_dict()
    del document["weights_id"]
    assert verify(document) == ["The receipt lacks weights_id."]


@pytest.mark.parametrize("version", [0, 3, True, None, "2", 1.5])
def test_another_format_is_named(version: object) -> None:
    said = {True: "true", None: "null", "2": '"2"'}.get(version, str(version))
    assert verify(NOW.as_dict() | {"format": version}) == [f"The receipt format is {said}; supported are 1 and 2."]
