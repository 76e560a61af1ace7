"""The rewriter against a stand-in endpoint on this machine."""

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from gpu_worker.prepare import HttpRewriter
from video_jobs.errors import RewriterUnavailable
from video_jobs.rewriting import MAX_REWRITE_CHARACTERS
from video_jobs.settings import PromptSettings


class Endpoint(ThreadingHTTPServer):
    """Answers what a test tells it to, in turn; the last answer stays."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Chat)
        self.answers: list[tuple[int, object]] = []
        self.asked: list[dict[str, object]] = []
        self.keys: list[str | None] = []


class Chat(BaseHTTPRequestHandler):
    server: Endpoint

    def do_POST(self) -> None:
        self.server.asked.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
        self.server.keys.append(self.headers["Authorization"])
        answers = self.server.answers
        status, content = answers.pop(0) if len(answers) > 1 else answers[0]
        body = json.dumps({"choices": [{"message": {"content": content}}]}).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        pass


@pytest.fixture
def endpoint() -> Iterator[Endpoint]:
    with Endpoint() as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        yield server
        server.shutdown()
        thread.join()


@pytest.fixture
def rewriter(endpoint: Endpoint) -> HttpRewriter:
    settings = PromptSettings.model_validate(
        {
            "rewriter_url": f"http://127.0.0.1:{endpoint.server_port}/v1",
            "rewriter_model": "writer",
            "rewriter_key": "secret",
            "rewriter_retries": 2,
        }
    )
    return HttpRewriter(settings, first_pause_s=0.01)


async def test_prompt_becomes_the_answer(endpoint: Endpoint, rewriter: HttpRewriter) -> None:
    endpoint.answers = [(200, ' "A cat\n walks." ')]

    assert await rewriter.rewrite("一只猫") == "A cat walks."
    assert endpoint.asked[0]["model"] == "writer"
    assert endpoint.keys == ["Bearer secret"]


async def test_answer_is_bounded(endpoint: Endpoint, rewriter: HttpRewriter) -> None:
    endpoint.answers = [(200, "cat " * 2000)]

    assert len(await rewriter.rewrite("cat")) <= MAX_REWRITE_CHARACTERS


async def test_failed_try_is_repeated(endpoint: Endpoint, rewriter: HttpRewriter) -> None:
    endpoint.answers = [(503, ""), (200, None), (200, "A cat.")]

    assert await rewriter.rewrite("cat") == "A cat."


async def test_endpoint_that_stays_down_is_an_error(endpoint: Endpoint, rewriter: HttpRewriter) -> None:
    endpoint.answers = [(500, "")]

    with pytest.raises(RewriterUnavailable):
        await rewriter.rewrite("cat")
    assert len(endpoint.asked) == 3
