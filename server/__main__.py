"""`python -P -m server`: the gateway on uvicorn."""

import resource

import uvicorn

from server.app import create_app
from server.protocol import BoundedHttp
from server.settings import GatewaySettings
from video_jobs.logs import set_up_logs
from video_jobs.settings import read_settings


def main() -> None:
    settings = read_settings(GatewaySettings)
    set_up_logs(settings.log_level)
    _open_many()
    uvicorn.run(
        create_app(settings),
        host=settings.host,
        port=settings.port,
        http=BoundedHttp,
        ws="none",
        loop="uvloop",
        log_config=None,
        access_log=False,
        server_header=False,
        timeout_graceful_shutdown=10,
    )


def _open_many() -> None:
    """As many connections as the machine allows: slow clients must not use up a low default."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))


if __name__ == "__main__":
    main()
