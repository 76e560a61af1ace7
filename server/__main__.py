"""`python -P -m server`: the gateway on uvicorn."""

import uvicorn

from server.app import create_app
from server.settings import GatewaySettings
from video_jobs.logs import set_up_logs
from video_jobs.settings import read_settings


def main() -> None:
    settings = read_settings(GatewaySettings)
    set_up_logs(settings.log_level)
    uvicorn.run(
        create_app(settings),
        host=settings.host,
        port=settings.port,
        http="httptools",
        loop="uvloop",
        log_config=None,
        access_log=False,
        server_header=False,
        timeout_graceful_shutdown=10,
    )


if __name__ == "__main__":
    main()
