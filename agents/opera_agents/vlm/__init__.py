"""Vision-language models that plan in words."""

from opera_env.imports import require_packages

require_packages("agents", "requests", "transformers")
