"""The local API key."""

import stat
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from corral.store.key_file import KEY_PREFIX, read_or_create_secret, read_secret


def test_a_key_is_made_once_and_only_its_owner_can_read_it(tmp_path: Path) -> None:
    path = tmp_path / "api-key"
    assert read_secret(path) is None
    key, is_new = read_or_create_secret(path, prefix=KEY_PREFIX)
    assert is_new
    assert key.startswith("ck_")
    assert len(key) == len("ck_") + 43  # 256 bits in base64
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert read_or_create_secret(path, prefix=KEY_PREFIX) == (key, False)
    assert read_secret(path) == key


def test_two_starts_at_once_agree_on_one_secret(tmp_path: Path) -> None:
    path = tmp_path / "api-key"
    with ThreadPoolExecutor(8) as pool:
        made = list(pool.map(lambda _: read_or_create_secret(path, prefix=KEY_PREFIX), range(8)))
    assert len({key for key, _ in made}) == 1
    assert [entry.name for entry in tmp_path.iterdir()] == ["api-key"]
