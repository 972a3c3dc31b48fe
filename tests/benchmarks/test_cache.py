"""Downloads are whole, kept once, and used without a network; and what goes wrong is one sentence."""

import gzip
import hashlib
import time

import pytest

from benchmarks import BenchmarkError, data
from benchmarks.sources import cache

BODY = b"a,b\n1,2\n"


def cut_short(handler):
    handler.send_response(200)
    handler.send_header("Content-Length", "1000")
    handler.end_headers()
    handler.wfile.write(BODY)


def slow(handler):
    time.sleep(0.5)  # longer than the tests' patience
    cut_short(handler)


def test_a_file_is_downloaded_once(server):
    url = server.put("/a.csv", BODY)
    assert cache.fetch(url, "x/a.csv", sha256=hashlib.sha256(BODY).hexdigest()) == BODY
    server.answers.clear()
    assert cache.fetch(url, "x/a.csv") == BODY
    assert server.asked == ["/a.csv"]
    assert sorted(path.name for path in (cache.folder() / "x").iterdir()) == ["a.csv", "a.csv.sha256"]


def test_without_a_network_what_is_kept_is_used_and_nothing_else(server):
    url = server.put("/a.csv", BODY)
    cache.fetch(url, "a.csv")
    assert cache.fetch(url, "a.csv", network=False) == BODY
    with pytest.raises(cache.UnreachableError, match=r"b\.csv has no copy in .*cache, and cannot be reached"):
        cache.fetch(server.url + "/b.csv", "b.csv", network=False)
    assert server.asked == ["/a.csv"]


@pytest.mark.parametrize("damage", ["a.csv", "a.csv.sha256"])
def test_what_has_changed_on_disk_is_downloaded_again(server, damage):
    url = server.put("/a.csv", BODY)
    cache.fetch(url, "a.csv")
    (cache.folder() / damage).write_bytes(b"broken")
    assert cache.fetch(url, "a.csv") == BODY
    assert len(server.asked) == 2
    assert cache.fetch(url, "a.csv", network=False) == BODY


def test_another_checksum_is_refused_and_not_kept(server):
    url = server.put("/a.csv", BODY)
    with pytest.raises(BenchmarkError, match=r"a\.csv should have sha256 000.*, but has .*: it is not kept"):
        cache.fetch(url, "a.csv", sha256="0" * 64)
    with pytest.raises(BenchmarkError, match="should have md5 1111"):
        cache.fetch(url, "a.csv", md5="1" * 32)
    assert not list(cache.folder().rglob("*"))


def test_what_is_not_there_is_not_asked_for_again(server):
    with pytest.raises(cache.RefusedError, match=r"/gone answers 404 Not Found") as refusal:
        cache.fetch(server.url + "/gone", "gone")
    assert (refusal.value.status, refusal.value.body) == (404, b"no such page")
    assert len(server.asked) == 1


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        (cut_short, "cannot be reached: IncompleteRead"),
        (slow, "cannot be reached: .*timed out"),
        ((503, b""), "cannot be reached: it answers 503 Service Unavailable"),
    ],
)
def test_a_passing_fault_is_tried_three_times(server, answer, said):
    url = server.put("/a.csv", [answer])
    with pytest.raises(cache.UnreachableError, match=said):
        cache.fetch(url, "a.csv")
    assert len(server.asked) == 3
    assert not list(cache.folder().rglob("*"))


@pytest.mark.parametrize("first", [cut_short, (503, b"")])
def test_a_fault_that_has_passed_leaves_no_trace(server, first):
    url = server.put("/a.csv", [first, (200, BODY)])
    assert cache.fetch(url, "a.csv") == BODY


def test_nobody_at_the_address_is_one_sentence(server):
    server.stop()
    with pytest.raises(cache.UnreachableError, match=r"http://127.*/a\.csv cannot be reached: .*refused"):
        cache.fetch(server.url + "/a.csv", "a.csv")
    server.stop = lambda: None


@pytest.mark.parametrize("url", ["file:///etc/hostname", "ftp://here/a.csv", "a.csv"])
def test_only_the_web_is_read(server, url):
    with pytest.raises(BenchmarkError, match="must begin with https:// or http://"):
        cache.fetch(url, "a.csv")


def test_a_cache_that_cannot_be_written_is_named(server, tmp_path, monkeypatch):
    (tmp_path / "file").write_bytes(b"")
    monkeypatch.setenv("GBDT2NN_CACHE", str(tmp_path / "file"))
    with pytest.raises(BenchmarkError, match=r"cannot be written .*name another folder with GBDT2NN_CACHE"):
        cache.fetch(server.put("/a.csv", BODY), "a.csv")


def test_the_folder_is_the_platforms_unless_one_is_named(monkeypatch):
    monkeypatch.delenv("GBDT2NN_CACHE", raising=False)
    monkeypatch.setattr("sys.platform", "linux")
    monkeypatch.setenv("XDG_CACHE_HOME", "/home/me/.cache")
    assert cache.folder().as_posix() == "/home/me/.cache/gbdt2nn"


# ---- cards with a URL


@pytest.fixture
def card(server, tmp_path, monkeypatch, table):
    """A card whose table lies on the server, and a function that writes it."""
    content = gzip.compress(table.to_csv(index=False).encode(), mtime=0)
    server.put("/tables/paint.csv.gz", content)
    folder = tmp_path / "cards"
    folder.mkdir()
    monkeypatch.setattr(data, "CARDS", folder)
    monkeypatch.delenv("GBDT2NN_DATA", raising=False)

    def write(sha256=None):
        sha256 = hashlib.sha256(content).hexdigest() if sha256 is None else sha256
        url = f"{server.url}/tables/paint.csv.gz"
        (folder / "paint.toml").write_text(
            f'name = "paint"\nurl = "{url}"\nsha256 = "{sha256}"\ntask = "regression"\ntarget = "price"\nrows = 11\n'
            'features = 2\ncategories = ["colour"]\nnot_features = ["id"]\nlicence = "CC0-1.0"\nmissing = {size = 1}\n'
            '[split]\ncolumn = "part"\n'
        )

    write()
    return write


def test_a_card_may_name_a_url(card, server):
    entry = data.available()["paint"]
    assert (entry.needs, entry.n_features, entry.n_missing) == ("network, once", 2, 1)
    assert server.asked == []  # the list needs no network
    found = entry.load()
    assert found.X.shape == (11, 2)
    assert (found.X["colour"].dtype.name, set(found.part)) == ("category", {"train", "test"})
    server.answers.clear()
    assert data.load("paint").X.equals(found.X)
    assert server.asked == ["/tables/paint.csv.gz"]


def test_other_bytes_than_the_card_says_are_refused(card):
    card(sha256="0" * 64)
    with pytest.raises(BenchmarkError, match=r"paint\.csv\.gz should have sha256 000"):
        data.load("paint")


@pytest.mark.parametrize("sha256", ["", "abc"])
def test_a_url_without_a_checksum_is_refused(card, sha256):
    card(sha256=sha256)
    with pytest.raises(BenchmarkError, match=r"the card paint\.toml must give 'sha256' as 64 hexadecimal digits"):
        data.available()
