"""The command line of GRPO training: TRL's, with errors of one line."""

# pyright: reportPrivateImportUsage=false
# TRL exports its names lazily.

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any, NoReturn, cast

import yaml
from trl import GRPOConfig, ModelConfig, TrlParser

from opera_agents.vlm.config import EnvArguments, check_arguments
from opera_env.errors import did_you_mean, error_message

PRESETS = ("tiny", "tiny-turns", "7b")
"""Settings that come with the package, which ``--config`` takes by name."""

PRESETS_FOLDER = Path(__file__).with_name("presets")


def parse_arguments(arguments: Sequence[str]) -> tuple[EnvArguments, GRPOConfig, ModelConfig]:
    """Returns the settings that a command line names, and the file or the preset after its ``--config``.

    Raises:
        SystemExit: With code 0 after ``--help``, with code 2 if the arguments are not valid.
        SettingError: If a setting has a value that cannot be used.
    """
    parser = _Parser(cast(Any, (EnvArguments, GRPOConfig, ModelConfig)))
    if arguments and arguments[-1] == "--config":  # TRL takes what follows without a look
        parser.error("argument --config: expected a file.")
    try:
        *settings, in_file, in_command = parser.parse_args_and_config(
            _find_preset(arguments, parser), return_remaining_strings=True, separate_remaining_strings=True
        )
    except (ValueError, OSError, yaml.YAMLError) as error:  # of TRL, about values and the file of --config
        parser.error(error_message(error))
    for name in (name for name in (*in_command, *in_file) if name.startswith("--")):
        parser.error(f"unknown setting {name}.{did_you_mean(name, parser.setting_names)}")
    if stray := [*in_command]:
        parser.error(f"expected --SETTING VALUE, found {stray[0]!r}.")
    env_args, training_args, model_args = cast(Any, settings)
    check_arguments(training_args, model_args)
    return env_args, training_args, model_args


def _find_preset(arguments: Sequence[str], parser: _Parser) -> list[str]:
    """Returns a command line with the file of a preset in place of its name; files come first."""
    found = list(arguments)
    for index, (option, value) in enumerate(pairwise(arguments), start=1):
        if option == "--config" and not Path(value).exists():
            if value not in PRESETS:
                parser.error(f"--config {value}: expected a file or a preset ({', '.join(PRESETS)}).")
            found[index] = str(PRESETS_FOLDER / f"{value}.yaml")
    return found


class _Parser(TrlParser):
    """TRL's parser, which would print the usage of its two hundred settings with every error."""

    @property
    def setting_names(self) -> list[str]:
        return list(self._option_string_actions)

    def error(self, message: str) -> NoReturn:
        self.exit(2, f"error: {message} (--help lists all settings)\n")
