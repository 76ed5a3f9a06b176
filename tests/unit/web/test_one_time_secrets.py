"""One-time secrets for the page after a redirect."""

from corral.web.one_time_secrets import MAX_NOTES, NOTE_S, OneTimeSecrets
from corral.web.sessions import Sessions
from tests.unit.web.test_sessions import SECRET, Clock


def test_a_secret_is_taken_once_by_its_session_and_subject() -> None:
    clock = Clock()
    notes, sessions = OneTimeSecrets(clock), Sessions(secret=SECRET, clock=clock)
    mine, other = sessions.make("key_a"), sessions.make("key_a")
    notes.put(mine, "key_1", "secret 1")
    notes.put(mine, "key_2", "secret 2")
    assert notes.take(other, "key_1") is None
    assert notes.take(mine, "key_3") is None
    assert notes.take(mine, "key_1") == "secret 1"
    assert notes.take(mine, "key_1") is None
    assert notes.take(mine, "key_2") == "secret 2"


def test_unread_secret_expires() -> None:
    clock = Clock()
    notes, session = OneTimeSecrets(clock), Sessions(secret=SECRET, clock=clock).make("key_a")
    notes.put(session, "old", "secret 1")
    clock.now_s += NOTE_S / 2
    notes.put(session, "new", "secret 2")
    clock.now_s += NOTE_S / 2
    assert notes.take(session, "old") is None
    assert notes.take(session, "new") == "secret 2"


def test_number_of_stored_secrets_is_bounded() -> None:
    clock = Clock()
    notes, session = OneTimeSecrets(clock), Sessions(secret=SECRET, clock=clock).make("key_a")
    for number in range(MAX_NOTES + 1):
        notes.put(session, str(number), "secret")
    assert notes.take(session, "0") is None
    assert notes.take(session, "1") == "secret"
