"""URLs of callers: read in one way only, or refused."""

import pytest

from corral.egress.failures import EgressRefused, Refusal
from corral.egress.urls import MAX_URL_LENGTH, parse_target


@pytest.mark.parametrize(
    ("url", "host", "port", "authority"),
    [
        ("https://example.com", "example.com", 443, "example.com"),
        ("HTTP://Example.COM:8080/a?b=c#d", "example.com", 8080, "example.com:8080"),
        ("https://example.com:443/", "example.com", 443, "example.com"),
        ("https://example.com./x", "example.com", 443, "example.com"),
        ("https://b\u00fccher.example/x", "xn--bcher-kva.example", 443, "xn--bcher-kva.example"),
        ("http://_dmarc.my-host.local/x", "_dmarc.my-host.local", 80, "_dmarc.my-host.local"),
        ("http://1.2.3.4:99/", "1.2.3.4", 99, "1.2.3.4:99"),
        ("http://[2001:DB8::1]:8/", "2001:db8::1", 8, "[2001:db8::1]:8"),
        ("https://3com.com/", "3com.com", 443, "3com.com"),
    ],
)
def test_plain_urls_are_parsed(url: str, host: str, port: int, authority: str) -> None:
    target = parse_target(url)
    assert (target.host, target.port) == (host, port)
    assert target.authority in (authority, f"{authority}:{port}")
    assert target.receiver.endswith(f":{port}")
    assert "#" not in str(target.url)


@pytest.mark.parametrize(
    "url",
    [
        "", "x", "//example.com/", "example.com/hook", "ftp://example.com/", "file:///etc/passwd", "https://",
        "https:///x", "https://:443/", "https://user@example.com/", "https://user:secret@example.com/",
        "https://@example.com/", "https://example.com\\@evil.example/", "https://evil.example\\.example.com/",
        "https://exa mple.com/", "https://example.com/\r\nHost: x", "https://example.com/\t", "https://example.com:0/",
        "https://example.com:65536/", "https://example.com:-1/", "https://example.com:x/", "https://exam%70le.com/",
        "https://a..example/", "https://.example/", "https://-a.example/", "https://" + "a" * 64 + ".example/",
        "https://" + "a." * 127 + "example/", "https://example.com/" + "x" * MAX_URL_LENGTH,
        "http://0x7f000001/", "http://0x7f.1/", "http://2130706433/", "http://017700000001/", "http://127.1/",
        "http://0177.0.0.1/", "http://127.0.0.1.5/", "http://a.127/", "http://1.2.3.4.5/", "http://256.1.1.1/",
        "http://[::1%25eth0]/", "http://[fe80::1%eth0]/", "http://[::1/", "http://[v1.x]/", "http://[1.2.3.4]/",
        "http://\u2460\u2461\u2466.0.0.1/", "http://\u3002example/", "http://xn--/", "http://a\u00ad.example\x7f/",
    ],
)  # fmt: skip
def test_ambiguous_urls_are_rejected_without_being_repeated(url: str) -> None:
    with pytest.raises(EgressRefused) as refused:
        parse_target(url)
    assert refused.value.why is Refusal.BAD_URL
    assert "secret" not in str(refused.value)
    assert str(refused.value).startswith("The webhook's URL ")
