from __future__ import annotations

import sys
import traceback

import pytest
import requests.utils
from hypothesis import given
from hypothesis import strategies as st

from llmws.errors import ConfigurationError
from llmws.secret import Secret
from llmws.wire.endpoint import Endpoint, Proxy, proxy_for


KEY = "canary-5e0c7d2a91"


def shown(error: BaseException) -> str:
    """Everything that a log could show of an error, but for the frames of the tests themselves."""
    walk = traceback.TracebackException.from_exception(error, capture_locals=True)
    ours = [frame for frame in walk.stack if "tests" not in frame.filename]
    return "".join(
        [str(error), repr(error), *traceback.StackSummary.from_list(ours).format()]
    ) + "".join(f"{frame.locals}" for frame in ours)


def refused(url: str, **arguments: object) -> str:
    with pytest.raises(ConfigurationError) as caught:
        Endpoint.build(url, **arguments)  # type: ignore[arg-type]
    assert KEY not in shown(caught.value)
    return str(caught.value)


@pytest.mark.parametrize(
    ("url", "normalised"),
    [
        ("https://api.openai.com/v1/responses", "wss://api.openai.com/v1/responses"),
        ("wss://API.OpenAI.com:443/v1", "wss://api.openai.com/v1"),
        ("http://localhost:8080", "ws://localhost:8080/"),
        ("ws://127.0.0.1:80/x", "ws://127.0.0.1/x"),
        ("wss://example.com:80/x", "wss://example.com:80/x"),
        ("ws://[::1]:9/x?a=b", "ws://[::1]:9/x?a=b"),
        ("https://bücher.example/?q=1", "wss://xn--bcher-kva.example/?q=1"),
        ("https://example.com/a;b/c;d", "wss://example.com/a%3Bb/c%3Bd"),
    ],
)
def test_a_url_is_normalised_to_a_websocket_one(url: str, normalised: str) -> None:
    assert Endpoint.build(url).url == normalised


def test_an_endpoint_knows_what_a_dial_needs() -> None:
    endpoint = Endpoint.build("wss://[2001:db8::1]:8443/v1?model=m")
    assert endpoint.secure
    assert (endpoint.host, endpoint.port) == ("2001:db8::1", 8443)
    assert endpoint.host_header == "[2001:db8::1]:8443"
    assert endpoint.resource == "/v1?model=m"
    assert not endpoint.is_loopback
    assert Endpoint.build("https://example.com").port == 443
    assert Endpoint.build("http://localhost").port == 80
    assert Endpoint.build("https://example.com").host_header == "example.com"


@pytest.mark.parametrize(
    ("url", "word"),
    [
        ("ftp://example.com/", "'ftp'"),
        ("example.com/v1", "scheme"),
        ("", "no text"),
        ("wss://", "no valid host"),
        ("wss:///v1", "no valid host"),
        ("wss://a..b/", "no valid host"),
        ("wss://" + "a" * 64 + ".com/", "no valid host"),
        ("wss://exa%6dple.com/", "no valid host"),
        ("wss://[fe80::1%25eth0]/", "host"),
        ("wss://[nonsense]/", "host"),
        ("wss://[127.0.0.1]/", "host"),
        ("wss://a[::1]/", "host"),
        ("wss://[::1]b/", "host"),
        ("wss://example.com:0/", "port"),
        ("wss://example.com:/", "port"),
        ("wss://example.com:65536/", "port"),
        ("wss://example.com:x/", "port"),
        (f"wss://user:{KEY}@example.com/", "user name"),
        (f"wss://example.com/#{KEY}", "fragment"),
        (f"wss://example.com/?key={KEY}\r\nX: y", "control"),
        (f"wss://example.com/{KEY} x", "space"),
        ("wss://example.com\\@evil.example/", "backslash"),
        (f"wss://example.com/é?key={KEY}", "ASCII"),
        ("wss://example.com/\x85", "control"),
    ],
)
def test_a_url_that_cannot_be_dialled_is_refused(url: str, word: str) -> None:
    assert word in refused(url)


def test_an_unencrypted_way_is_only_for_loopback_or_on_request() -> None:
    for url in ("ws://localhost/", "ws://127.8.9.10/", "ws://[::1]/", "http://localhost./"):
        assert Endpoint.build(url).is_loopback
    for url in (
        "ws://example.com/",
        "http://10.0.0.1/",
        "ws://localhost.example.com/",
        "ws://0.0.0.0/",
    ):
        assert "allow_insecure" in refused(url + f"?key={KEY}", headers={"Api-Key": KEY})
        assert not Endpoint.build(url, allow_insecure=True).secure


@pytest.mark.parametrize(
    ("headers", "word"),
    [
        ({"Host": KEY}, "Host"),
        ({"UPGRADE": KEY}, "UPGRADE"),
        ({"connection": KEY}, "connection"),
        ({"Sec-WebSocket-Protocol": KEY}, "Sec-WebSocket-Protocol"),
        ({"Content-Length": "1"}, "Content-Length"),
        ({"X-Key": f"{KEY}\r\nX-Evil: 1"}, "X-Key"),
        ({"X-Key": f"{KEY}\x00"}, "X-Key"),
        ({"X-Key": f"{KEY}\x85"}, "X-Key"),
        ({"X-Key": f"{KEY}€"}, "X-Key"),
        ({"X-Key": KEY.encode()}, "X-Key"),
        ({f"X {KEY}": "1"}, "token"),
        ({"X:": "1"}, "token"),
        ({"": "1"}, "token"),
        ({"X\n": "1"}, "token"),
    ],
)
def test_a_header_that_cannot_be_sent_is_refused_without_its_value(
    headers: dict[str, str], word: str
) -> None:
    assert word in refused("wss://example.com", headers=headers)


def test_credentials_and_an_authorization_header_are_one_too_many() -> None:
    headers = {"authorization": f"Bearer {KEY}"}
    assert "one of them" in refused(
        "wss://example.com", headers=headers, credentials=lambda: Secret(KEY)
    )
    assert Endpoint.build("wss://example.com", headers=headers).headers


def test_credentials_that_are_no_function_are_refused_without_being_shown() -> None:
    assert "no function" in refused("wss://example.com", credentials=KEY)


def test_an_endpoint_shows_neither_query_nor_values() -> None:
    endpoint = Endpoint.build(
        f"wss://example.com/v1?api-key={KEY}",
        headers={"Api-Key": f" {KEY} "},
        credentials=lambda: Secret(KEY),
    )
    assert repr(endpoint) == "<Endpoint wss://example.com/v1 headers=[Api-Key]>"
    assert str(endpoint) == "wss://example.com/v1"
    assert endpoint.headers[0][1].reveal() == KEY
    assert KEY in endpoint.url


def asking(ask: object, **arguments: object) -> Endpoint:
    return Endpoint.build("wss://example.com/v1", ask_headers=ask, **arguments)  # type: ignore[arg-type]


def shown_headers(endpoint: Endpoint) -> dict[str, str]:
    return {name: secret.reveal() for name, secret in endpoint.headers}


def test_asked_headers_are_asked_for_once_by_each_dial_and_by_nothing_else() -> None:
    values = iter(["1", " 2 "])
    endpoint = asking(lambda: {"X-Turn": next(values)}, headers={"X-Own": "o"})
    assert repr(endpoint) == (
        "<Endpoint wss://example.com/v1 headers=[X-Own] and more asked at each dial>"
    )
    assert (endpoint.secrets(), shown_headers(endpoint)) == ((), {"X-Own": "o"})
    first, second = endpoint.asked(), endpoint.asked()
    assert shown_headers(first) == {"X-Own": "o", "X-Turn": "1"}
    assert shown_headers(second) == {"X-Own": "o", "X-Turn": "2"}
    # What was asked for stays as it is.
    assert second.asked() is second
    assert repr(second) == "<Endpoint wss://example.com/v1 headers=[X-Own, X-Turn]>"


def test_asked_headers_go_before_the_others_of_their_name_whatever_the_case() -> None:
    endpoint = asking(lambda: {"user-agent": "me"}, headers={"User-Agent": "u", "X-Own": "o"})
    assert shown_headers(endpoint.asked()) == {"X-Own": "o", "user-agent": "me"}


@pytest.mark.parametrize("name", ["Authorization", "authorization"])
def test_an_asked_authorization_goes_before_the_credentials_of_that_dial_alone(name: str) -> None:
    given = iter([{name: f"Bearer {KEY}"}, {}])
    endpoint = asking(lambda: next(given), credentials=lambda: Secret("other"))
    first, second = endpoint.asked(), endpoint.asked()
    assert first.credentials is None
    assert {secret.reveal() for secret in first.secrets()} == {f"Bearer {KEY}", KEY}
    assert second.credentials is endpoint.credentials is not None


@pytest.mark.parametrize(
    ("given", "word"),
    [
        (None, "type NoneType"),
        ([("X-Key", KEY)], "type list"),
        (KEY, "type str"),
        ({"Host": KEY}, "Host"),
        ({"Sec-WebSocket-Key": KEY}, "Sec-WebSocket-Key"),
        ({"X-Key": f"{KEY}\r\nX-Evil: 1"}, "X-Key"),
        ({"X-Key": KEY.encode()}, "X-Key"),
        ({f"X {KEY}": "1"}, "token"),
        ({5: KEY}, "token"),
    ],
)
def test_asked_headers_are_checked_as_the_others_are_and_refused_without_their_values(
    given: object, word: str
) -> None:
    endpoint = asking(lambda: given)
    with pytest.raises(ConfigurationError, match="headers callable returned") as caught:
        endpoint.asked()
    assert word in str(caught.value)
    assert KEY not in shown(caught.value)


def test_what_a_headers_function_raises_passes_through() -> None:
    def ask() -> dict[str, str]:
        raise LookupError("closed")

    with pytest.raises(LookupError, match="closed"):
        asking(ask).asked()


def test_the_leak_scan_finds_a_planted_key() -> None:
    namespace: dict[str, object] = {}
    code = compile("def plant(key):\n    raise ValueError('no')\n", "/planted.py", "exec")
    exec(code, namespace)
    with pytest.raises(ValueError, match="no") as caught:
        namespace["plant"](KEY)  # type: ignore[operator]
    assert KEY in shown(caught.value)


def test_what_must_not_be_shown_is_found_in_headers_and_query() -> None:
    endpoint = Endpoint.build(
        f"wss://example.com/?token={KEY}-q&model=gpt-6-astra",
        headers={
            "Authorization": f"Bearer {KEY}",
            "X-Api-Key": f"{KEY}-x",
            "X-Title": "my program",
        },
    )
    values = {secret.reveal() for secret in endpoint.secrets()}
    assert values == {f"Bearer {KEY}", KEY, f"{KEY}-x", f"{KEY}-q"}


@given(name=st.text(max_size=8), value=st.text(max_size=8), path=st.text(max_size=8))
def test_nothing_accepted_can_end_a_line(name: str, value: str, path: str) -> None:
    try:
        endpoint = Endpoint.build(f"wss://example.com/{path}", headers={name: value})
    except ConfigurationError:
        return
    ((kept, secret),) = endpoint.headers
    for text in (kept, secret.reveal(), endpoint.resource, endpoint.host_header):
        assert not set(text) & set("\r\n\0")
        assert len(text.splitlines()) <= 1
        text.encode("latin-1")


@given(st.text(max_size=20))
def test_any_text_is_a_url_or_a_configuration_error(text: str) -> None:
    for url in (text, f"https://{text}", f"wss://example.com:{text}"):
        try:
            endpoint = Endpoint.build(url)
        except ConfigurationError:
            continue
        assert endpoint.host
        assert Endpoint.build(endpoint.url) == endpoint


SECURE = Endpoint.build("wss://api.example.com/v1")
PLAIN = Endpoint.build("ws://api.example.com/v1", allow_insecure=True)


@pytest.mark.parametrize(
    ("endpoint", "environ", "host"),
    [
        (SECURE, {}, None),
        (SECURE, {"HTTP_PROXY": "http://h"}, None),
        (SECURE, {"HTTPS_PROXY": "http://s"}, "s"),
        (SECURE, {"HTTPS_PROXY": "http://s", "https_proxy": "http://l"}, "l"),
        (SECURE, {"HTTPS_PROXY": "http://s", "https_proxy": ""}, None),
        (SECURE, {"HTTPS_PROXY": "http://s", "ALL_PROXY": "http://a"}, "s"),
        (SECURE, {"ALL_PROXY": "http://a"}, "a"),
        (SECURE, {"ALL_PROXY": "http://a", "all_proxy": "http://l"}, "l"),
        (SECURE, {"HTTPS_PROXY": "s:3128"}, "s"),
        (PLAIN, {"HTTPS_PROXY": "http://s"}, None),
        (PLAIN, {"HTTP_PROXY": "http://h"}, "h"),
        (PLAIN, {"HTTP_PROXY": "http://h", "REQUEST_METHOD": "GET"}, None),
        (PLAIN, {"http_proxy": "http://h", "REQUEST_METHOD": "GET"}, "h"),
        (PLAIN, {"HTTP_PROXY": "http://h", "REQUEST_METHOD": "GET", "ALL_PROXY": "http://a"}, "a"),
    ],
)
def test_the_proxy_is_the_one_that_requests_would_take(
    endpoint: Endpoint, environ: dict[str, str], host: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    proxy = proxy_for(endpoint, environ)
    assert (proxy.host if proxy else None) == host

    for name in ("http_proxy", "https_proxy", "all_proxy", "no_proxy", "request_method"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)
    for name, value in environ.items():
        monkeypatch.setenv(name, value)
    url = endpoint.url.replace("ws", "http", 1)
    theirs = requests.utils.select_proxy(url, requests.utils.get_environ_proxies(url))
    assert ("" if theirs is None else theirs).removeprefix("http://").partition(":")[0] == (
        host or ""
    )


def test_only_the_given_environment_decides(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTPS_PROXY", "http://from.the.process")
    monkeypatch.setenv("NO_PROXY", "*")
    assert proxy_for(SECURE, {}) is None
    assert proxy_for(SECURE, {"HTTPS_PROXY": "http://p"}) == Proxy("http", "p", 80)


@pytest.mark.parametrize(
    ("host", "no_proxy", "direct"),
    [
        ("api.example.com", "example.com", True),
        ("api.example.com", ".example.com", True),
        ("api.example.com", " other.org , .EXAMPLE.com ", True),
        ("example.com", ".example.com", True),
        ("evilexample.com", ".example.com", False),
        ("evilexample.com", "example.com", False),
        ("example.com.evil.org", "example.com", False),
        ("api.example.com", "*", True),
        ("api.example.com", "", False),
        ("api.example.com", ",,", False),
        ("api.example.com:8443", "example.com:8443", True),
        ("api.example.com:8443", "example.com:443", False),
        ("10.1.2.3", "10.0.0.0/8", True),
        ("10.1.2.3", "10.1.2.3", True),
        ("10.1.2.3", "2.3", False),
        ("11.1.2.3", "10.0.0.0/8", False),
        ("localhost", "127.0.0.1", False),
        ("127.0.0.1", "", False),
    ],
)
def test_no_proxy_matches_as_in_requests(
    host: str, no_proxy: str, direct: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    endpoint = Endpoint.build(f"https://{host}/v1")
    for name in ("NO_PROXY", "no_proxy"):
        assert (proxy_for(endpoint, {"HTTPS_PROXY": "http://p", name: no_proxy}) is None) == direct
    if (
        no_proxy != "2.3"
    ):  # urllib takes "2.3" for the end of a name, though it is the end of an address.
        monkeypatch.setenv("no_proxy", no_proxy)
        monkeypatch.delenv("NO_PROXY", raising=False)
        assert requests.utils.should_bypass_proxies(f"https://{host}/v1", None) == direct


@pytest.mark.parametrize(
    ("url", "no_proxy"),
    [
        ("https://example.com/", "example.com:443"),
        ("https://[2001:db8::7]/", "2001:db8::/32"),
        ("https://[2001:db8::7]/", "[2001:db8::7]:443"),
        ("https://10.1.2.3:8443/", "10.1.2.3:8443"),
    ],
)
def test_no_proxy_also_knows_default_ports_and_ipv6(url: str, no_proxy: str) -> None:
    environ = {"HTTPS_PROXY": "http://p", "NO_PROXY": no_proxy}
    assert proxy_for(Endpoint.build(url), environ) is None
    assert proxy_for(Endpoint.build("https://[2001:db9::7]/"), environ)


def test_a_proxy_address_is_taken_apart() -> None:
    address = "socks5h://us%40er:p%3Ass@[2001:db8::5]:9"
    proxy = proxy_for(SECURE, {"HTTPS_PROXY": address})
    assert proxy == Proxy("socks5h", "2001:db8::5", 9, "us@er", Secret("p:ss"))
    assert str(proxy) == "socks5h://[2001:db8::5]:9"
    assert "us@er" not in repr(proxy)
    assert proxy_for(SECURE, {"HTTPS_PROXY": "socks5://p"}) == Proxy("socks5", "p", 1080)


@pytest.mark.parametrize(
    ("address", "word"),
    [
        (f"socks4://u:{KEY}@p", "'socks4'"),
        (f"ftp://u:{KEY}@p", "'ftp'"),
        (f"https://u:{KEY}@p", "https"),
        (f"http://u:{KEY}@", "host"),
        (f"http://u:{KEY}@p:99999", "port"),
        (f"http://u:{KEY}@p:80\r\nX: 1", "host or port"),
        (f"http://u:{KEY}@p q", "space"),
    ],
)
def test_an_unusable_proxy_is_refused_by_name_and_without_its_password(
    address: str, word: str
) -> None:
    with pytest.raises(ConfigurationError) as caught:
        proxy_for(SECURE, {"HTTPS_PROXY": address, "OPENAI_API_KEY": KEY})
    assert word in str(caught.value)
    assert "HTTPS_PROXY" in str(caught.value)
    assert KEY not in shown(caught.value)


def test_a_socks_proxy_without_the_extra_says_what_to_install(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(sys.modules, "python_socks", None)
    with pytest.raises(ConfigurationError, match=r'pip install "llmws\[socks\]"'):
        proxy_for(SECURE, {"ALL_PROXY": "socks5h://p"})
