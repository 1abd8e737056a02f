"""The page of opera-env as a Hugging Face Space, which states where to serve it."""

import os
import sys

from opera_env.cli import main

HOST = os.environ.get("GRADIO_SERVER_NAME", "0.0.0.0")  # noqa: S104 - a Space is public
PORT = os.environ.get("GRADIO_SERVER_PORT", "7860")
sys.exit(main(["demo", "--host", HOST, "--port", PORT, "--max-megapixels", "2"]))
