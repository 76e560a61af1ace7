import stat
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import pytest

from video_jobs.links import LinkSigner, secret_file
from video_jobs.results import FolderStore


@pytest.mark.parametrize("key", ["../outside", "/etc/passwd", "a/../../b", "", "."])
def test_no_key_leaves_the_folder(tmp_path: Path, key: str) -> None:
    with pytest.raises(KeyError):
        FolderStore(tmp_path / "results").path(key)


def test_listing_goes_on_while_others_write_and_delete(tmp_path: Path) -> None:
    store, source, is_over = FolderStore(tmp_path / "results"), tmp_path / "source", threading.Event()
    source.write_bytes(b"x")
    store.put("jobs/stays/video.mp4", source, "video/mp4")

    def come_and_go() -> None:
        while not is_over.is_set():
            store.put("jobs/goes/deep/video.mp4", source, "video/mp4")
            store.delete("jobs/goes/deep/video.mp4")

    with ThreadPoolExecutor(1) as pool:
        going = pool.submit(come_and_go)
        try:
            listings = [dict(store.keys("jobs/")) for _ in range(2000)]
        finally:
            is_over.set()
        going.result()

    assert all("jobs/stays/video.mp4" in listing for listing in listings)
    assert dict(store.keys("none/")) == {}


def signed(link: str) -> tuple[str, int, str]:
    parts = urlsplit(link)
    query = parse_qs(parts.query)
    return parts.path.removeprefix("/files/"), int(query["expires"][0]), query["signature"][0]


def test_a_link_opens_its_object_until_it_expires() -> None:
    signer = LinkSigner(b"k" * 32, "https://videos.example")
    key, expires, signature = signed(signer.link("videos/1/video.mp4", int(time.time()) + 60))

    assert signer.is_valid(key, expires, signature)
    assert not signer.is_valid("videos/2/video.mp4", expires, signature)
    assert not signer.is_valid(key, expires + 1, signature)
    assert not signer.is_valid(*signed(signer.link(key, int(time.time()) - 1)))
    assert not LinkSigner(b"x" * 32, "https://videos.example").is_valid(key, expires, signature)


def test_a_signature_of_strange_letters_is_just_wrong() -> None:
    assert not LinkSigner(b"k" * 32, "https://videos.example").is_valid("a", 9_999_999_999, "é\ud800")


def test_a_secret_is_private_and_the_same_for_all_who_race_for_it(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "link.key"
    with ThreadPoolExecutor(16) as pool:
        secrets = set(pool.map(lambda _: secret_file(path), range(64)))

    assert len(secrets) == 1
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert [p.name for p in path.parent.iterdir()] == ["link.key"]
