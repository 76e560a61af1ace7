"""A stand-in for both model hubs' HTTP interfaces, serving folders of this machine; it can cut a download short."""

import hashlib
import json
import re
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import parse_qs, unquote, urlsplit

COMMIT = "0123456789abcdef0123456789abcdef01234567"
LARGE = 10_000


class Hub(ThreadingHTTPServer):
    def __init__(self, root: Path, cut_bytes: int = 0) -> None:
        super().__init__(("127.0.0.1", 0), Answer)
        self.root, self.cut_bytes = root, cut_bytes
        self.asked: list[tuple[str, str | None]] = []

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"


class Answer(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Hub

    def do_HEAD(self) -> None:
        self._answer()

    def do_GET(self) -> None:
        self._answer()

    def log_message(self, *_: object) -> None:
        pass

    def _answer(self) -> None:
        parts = urlsplit(self.path)
        path, query = unquote(parts.path), parse_qs(parts.query)
        self.server.asked.append((path, self.headers.get("Range")))
        if found := re.fullmatch(r"/api/models/([^/]+/[^/]+)(?:/revision/[^/]+)?", path):
            self._model(found[1])
        elif found := re.fullmatch(r"/api/models/([^/]+/[^/]+)/tree/[^/]+", path):
            self._json([self._entry(found[1], file) for file in self._files(found[1])])
        elif found := re.fullmatch(r"/([^/]+/[^/]+)/resolve/[^/]+/(.+)", path):
            self._bytes(self.server.root / found[1] / found[2])
        elif found := re.fullmatch(r"/api/v1/models/([^/]+/[^/]+)/repo/files", path):
            self._scope(found[1])
        elif found := re.fullmatch(r"/api/v1/models/([^/]+/[^/]+)/repo", path):
            self._bytes(self.server.root / found[1] / query["FilePath"][0])
        else:
            self._json({"error": "not found"}, 404)

    def _files(self, name: str) -> list[Path]:
        return [path for path in sorted((self.server.root / name).rglob("*")) if path.is_file()]

    def _entry(self, name: str, file: Path) -> dict[str, object]:
        entry: dict[str, object] = {"type": "file", "path": str(file.relative_to(self.server.root / name))}
        entry |= {"size": file.stat().st_size, "oid": digest(file)[:40]}
        if file.stat().st_size > LARGE:
            entry["lfs"] = {
                "oid": digest(file),
                "sha256": digest(file),
                "size": file.stat().st_size,
                "pointerSize": 134,
            }
        return entry

    def _model(self, name: str) -> None:
        if not (self.server.root / name).is_dir():
            return self._json({"error": "Repository not found"}, 404, {"X-Error-Code": "RepoNotFound"})
        entries = [self._entry(name, file) for file in self._files(name)]
        siblings = [{"rfilename": entry["path"], **entry, "blobId": entry["oid"]} for entry in entries]
        said = {"id": name, "sha": COMMIT, "siblings": siblings, "cardData": {"license": "apache-2.0"}}
        return self._json(said | {"private": False, "tags": [], "downloads": 0, "likes": 0})

    def _scope(self, name: str) -> None:
        if not (self.server.root / name).is_dir():
            return self._json({"Code": 10010205001, "Message": "not found", "Success": False}, 404)
        files = [
            {
                "Path": str(file.relative_to(self.server.root / name)),
                "Name": file.name,
                "Size": file.stat().st_size,
                "Sha256": digest(file),
                "Type": "blob",
                "Revision": COMMIT,
                "IsLFS": False,
            }
            for file in self._files(name)
        ]
        return self._json({"Code": 200, "Success": True, "Data": {"Files": files}})

    def _bytes(self, file: Path) -> None:
        if not file.is_file():
            return self._json({"error": "Entry not found"}, 404, {"X-Error-Code": "EntryNotFound"})
        held = file.read_bytes()
        wanted = re.fullmatch(r"bytes=(\d+)-(\d*)", self.headers.get("Range", ""))
        first, last = (int(wanted[1]), int(wanted[2] or len(held) - 1)) if wanted else (0, len(held) - 1)
        body = held[first : last + 1]
        self.send_response(206 if wanted else 200)
        tag = digest(file) if len(held) > LARGE else digest(file)[:40]
        for name, value in {
            "Content-Length": str(len(body)),
            "Content-Range": f"bytes {first}-{first + len(body) - 1}/{len(held)}",
            "Accept-Ranges": "bytes",
            "ETag": f'"{tag}"',
            "X-Repo-Commit": COMMIT,
            "X-Linked-Size": str(len(held)),
            "X-Linked-Etag": f'"{tag}"',
        }.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command == "HEAD":
            return None
        if self.server.cut_bytes and len(body) > self.server.cut_bytes and file.suffix == ".safetensors":
            cut, self.server.cut_bytes = self.server.cut_bytes, 0
            self.wfile.write(body[:cut])
            self.wfile.flush()
            self.close_connection = True
            self.connection.close()
            return None
        self.wfile.write(body)
        return None

    def _json(self, said: object, status: int = 200, headers: dict[str, str] | None = None) -> None:
        body = json.dumps(said).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        for name, value in (headers or {}).items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)


def digest(file: Path) -> str:
    return hashlib.sha256(file.read_bytes()).hexdigest()
