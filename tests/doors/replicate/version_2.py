"""Calls Replicate's Python client, version 2, in an own process because its package name is that of version 1."""

import sys
from typing import Any

import replicate  # pyright: ignore[reportMissingImports] - installed apart, see `make client-deps`


def main(model: str) -> None:
    """Call the top-level functions and some namespace methods."""
    owner, name = model.split("/")
    given: dict[str, Any] = {"prompt": "What are you?", "seed": 7, "max_tokens": 40}
    client = replicate.Replicate()
    whole = "".join(client.run(model, input=given))
    assert whole
    if (
        str(client.base_url).rstrip("/").endswith("/v1")
    ):  # it gets the model first; at the root that route is DeepInfra's
        assert "".join(map(str, client.stream(model, input=given))) == whole
    created = client.models.predictions.create(model_owner=owner, model_name=name, input=given, prefer="wait")
    assert "".join(created.output) == whole
    assert client.predictions.get(prediction_id=created.id).status == "succeeded"
    assert created.id in [each.id for each in client.predictions.list().results]
    assert client.predictions.cancel(prediction_id=created.id).status == "succeeded"
    late = client.predictions.create(version=model, input=given, cancel_after="1h")
    assert late.deadline is not None
    assert client.account.get().name == "local"
    assert client.hardware.list()[0].sku == "cpu"
    assert client.collections.list().results
    assert client.deployments.get(deployment_owner=owner, deployment_name=name).name == name
    found = client.search(query="llama")
    assert any(each.model.name == name for each in found.models)
    assert "Llama" in client.models.readme.get(model_owner=owner, model_name=name)
    assert client.models.examples.list(model_owner=owner, model_name=name).results
    print("every call answered")


if __name__ == "__main__":
    main(sys.argv[1])
