"""The application of the environment: ``uvicorn server.app:app``."""

import argparse

import uvicorn
from openenv.core.env_server.http_server import create_app

try:  # installed, or as the module server.app in the folder of the environment
    from ..models import RestorationAction, RestorationObservation  # noqa: TID252
    from .environment import RestorationEnvironment  # noqa: TID252
except ImportError:
    from models import RestorationAction, RestorationObservation
    from server.environment import RestorationEnvironment

app = create_app(
    RestorationEnvironment,
    RestorationAction,
    RestorationObservation,
    env_name="openenv_opera",
    max_concurrent_envs=64,
)


def main() -> None:
    """Serves the environment on this machine."""
    parser = argparse.ArgumentParser(description="Serves the environment.")
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=8000)
    options = parser.parse_args()
    uvicorn.run(app, host=options.host, port=options.port)


if __name__ == "__main__":
    main()
