"""Workers that are child processes, which speak msgpack frames over a socketpair."""
