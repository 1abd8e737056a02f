"""Vision-language models that plan in words."""
