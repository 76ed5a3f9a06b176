"""The local API key."""

import stat
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from corral.store.key_file import read_key, read_or_make_key


def test_a_key_is_made_once_and_only_its_owner_can_read_it(tmp_path: Path) -> None:
    path = tmp_path / "api-key"
    assert read_key(path) is None
    key, is_new = read_or_make_key(path)
    assert is_new
    assert key.startswith("ck_")
    assert len(key) == len("ck_") + 43  # 256 bits in base64
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert read_or_make_key(path) == (key, False)
    assert read_key(path) == key


def test_two_starts_at_once_agree_on_one_key(tmp_path: Path) -> None:
    path = tmp_path / "api-key"
    with ThreadPoolExecutor(8) as pool:
        made = list(pool.map(lambda _: read_or_make_key(path), range(8)))
    assert len({key for key, _ in made}) == 1
    assert [entry.name for entry in tmp_path.iterdir()] == ["api-key"]
