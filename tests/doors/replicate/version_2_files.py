"""Calls the files methods of Replicate's Python client, version 2; see ``version_2``."""

from urllib.parse import parse_qs, urlsplit

import replicate  # pyright: ignore[reportMissingImports] - installed apart, see `make client-deps`


def main() -> None:
    """Call every files method."""
    client = replicate.Replicate()
    metadata = {"customer": "7"}
    given = ("in-head.txt", b"version 2", "text/plain")
    plain = client.files.create(content=given)
    assert (plain.content_type, plain.size, plain.metadata) == ("text/plain", 9, {})
    made = client.files.create(content=b"version 2", filename="two.bin", type="application/x-two", metadata=metadata)
    assert (made.name, made.content_type, made.metadata) == ("two.bin", "application/x-two", metadata)
    assert client.files.get(file_id=made.id).checksums.sha256 == made.checksums.sha256
    assert {each.id for each in client.files.list().results} == {plain.id, made.id}
    query = {name: values[0] for name, values in parse_qs(urlsplit(made.urls.download).query).items()}
    download = client.files.download(
        file_id=made.id, expiry=int(query["expiry"]), owner=query["owner"], signature=query["signature"]
    )
    assert download.read() == b"version 2"
    client.files.delete(file_id=made.id)
    assert [each.id for each in client.files.list().results] == [plain.id]
    print("every call answered")


if __name__ == "__main__":
    main()
