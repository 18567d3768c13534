"""Reads the arguments of a command, and says in one sentence what is wrong with them."""

import contextlib
import io
import re
from collections.abc import Iterable
from typing import TypeVar

import tyro

from jgps.core.names import unknown
from jgps.training import UsageError

Options = TypeVar("Options")


def parse(options: type[Options], command: str, arguments: list[str]) -> Options:
    """Reads arguments; a mistake raises a UsageError of one sentence, without tyro's boxes."""
    config = (tyro.conf.AvoidSubcommands, tyro.conf.FlagCreatePairsOff)
    prog = f"jgps {command}"
    if {"-h", "--help"} & set(arguments):
        return tyro.cli(options, args=arguments, prog=prog, config=config)
    output = io.StringIO()
    try:
        with contextlib.redirect_stderr(output), contextlib.redirect_stdout(output):
            return tyro.cli(options, args=arguments, prog=prog, config=config)
    except SystemExit:
        sentence = _in_our_words(_sentence(output.getvalue()))
        see = " See" if sentence.endswith("?") else "; see"
        raise UsageError(f"{sentence}{see} {prog} --help") from None


def _sentence(box: str) -> str:
    """Returns what tyro's box says below its title, and which option was probably meant."""
    paragraphs: list[list[str]] = [[]]
    for line in box.splitlines():
        text = line.strip(" │")
        if text and not text.strip("─-"):
            paragraphs.append([])
        elif not text.startswith(("╭", "╰")):
            paragraphs[-1] += text.split()
    # Without the box drawing characters of a terminal the title is a paragraph of its own.
    first = 0 if "╭" in box else 1
    text = " ".join(paragraphs[first]).rstrip(".")
    for words in paragraphs[first + 1 :]:
        if words[:3] == ["Perhaps", "you", "meant:"]:
            named = next((word for word in words if word.startswith("--")), None)
            return text if named is None else f"{text}; did you mean {named}?"
    return text


# What tyro and Python say of a value that cannot be read, and what is meant.
_WRONG_VALUES = (
    (r"invalid literal for int\(\) with base 10: (.*)", "an integer"),
    (r"could not convert string to float: (.*)", "a number"),
    (r"Could not find valid parse for arguments: \[(.*)\]", "of the kind that the help shows"),
)


def _in_our_words(sentence: str) -> str:
    """Returns a sentence on an option's value as messages of jgps are written."""
    found = re.fullmatch(r"Error parsing (?:--)?(\S+): (.*)", sentence)
    if found is None:
        return sentence
    option, said = f"--{found[1]}", found[2]
    for pattern, kind in _WRONG_VALUES:
        value = re.fullmatch(pattern, said)
        if value is not None:
            return f"{option} is {value[1]}; it has to be {kind}"
    setting = re.match(r"\w+Config\.([\w.]+) is ", said)
    if setting is None:
        return sentence
    return f"{option}.{setting[1].replace('_', '-')}{said[setting.end(1) :]}"


# Arguments of Python's functions, in the words of the command line.
_ARGUMENTS = {
    "start_from.iteration": "--start-iteration",
    "start_from.directory": "--start-from",
    "start_from": "--start-from",
    "evaluate_every": "--evaluate-every",
    "keep_samples": "--keep-samples",
}


# Arguments that are words of plain sentences too: where a message begins with one.
_AT_THE_START = re.compile(r"^(seed|iterations|out|backend)(?= is )")


def _option(name: str) -> str:
    return f"--{name.replace('_', '-')}"


def as_options(message: object) -> str:
    """Returns a message in which settings and arguments are written as the command line has them.

    `config.rollouts.num_samples` is `--config.rollouts.num-samples` there, `resume=True` is
    `--resume`, and an `out` to choose is `--out`.
    """
    settings = r"(?<![\w./-])config(\.(?!json\b)[a-z_]+)+"
    text = re.sub(settings, lambda found: _option(found[0]), str(message))
    text = re.sub(r"\b(resume|overwrite)=True\b", r"--\1", text)
    text = re.sub(
        r"\bCheckpointConfig\.(\w+)", lambda found: _option(f"checkpoint.{found[1]}"), text
    )
    for name, option in _ARGUMENTS.items():
        text = re.sub(rf"(?<![\w.-]){re.escape(name)}\b", option, text)
    text = _AT_THE_START.sub(lambda found: _option(found[1]), text)
    return text.replace("another out", "another --out")


def given(option: str, arguments: list[str]) -> str | None:
    """Returns the value of an option that decides which others there are; None without it."""
    value = None
    for index, argument in enumerate(arguments):
        name, equals, text = argument.partition("=")
        if name.replace("_", "-") != f"--{option}":
            continue
        if equals:
            value = text
        elif index + 1 < len(arguments):
            value = arguments[index + 1]
    return value


def flagged(option: str, arguments: list[str]) -> bool:
    """Says whether a flag is among the arguments, written with `-` or `_` inside its name."""
    return any(argument.replace("_", "-") == f"--{option}" for argument in arguments)


def check_choice(option: str, value: str, choices: Iterable[str]) -> str:
    """Returns the value of an option, which has to be one of the choices.

    Raises:
      UsageError: if it is not.
    """
    if value not in choices:
        raise UsageError(unknown(option, value, choices))
    return value
