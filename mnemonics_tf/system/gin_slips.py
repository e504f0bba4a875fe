"""What is wrong with a line of a gin file, in the words of someone who has made such slips: gin's own are riddles."""

from __future__ import annotations

import re
from collections.abc import Collection

from mnemonics_tf.system import screen

_MAX_SHOWN = 60  # characters of what was written

# What other languages write for Python's constants.
_CONSTANTS = {
    "true": "True",
    "yes": "True",
    "on": "True",
    "false": "False",
    "no": "False",
    "off": "False",
    "none": "None",
    "null": "None",
    "nil": "None",
}
_BINDING = re.compile(r"\s*(%?[\w./]+)\s*[=:]")
_EXAMPLE = "expected a binding such as 'ModelLevel.epochs = 8'"
_CLOSING = {"(": ")", "[": "]", "{": "}"}
_ODD_QUOTES = "“”„‘’«»`"


def explain(error: Exception, text: str, known: Collection[str]) -> tuple[str, int]:
    """One line about what cannot be parsed, and the number of the line that it is in.

    Args:
      error: gin's, or Python's tokenizer's.
      text: all that was parsed.
      known: names that can be referred to.
    """
    lines = [*text.split("\n"), ""]
    message = str(error.args[0]) if error.args else type(error).__name__
    number, column = _place(error, lines)
    opened = _opened_bracket(lines, number, column)
    if "string" in message and ("EOF" in message or "unterminated" in message):
        return _said(lines, number, "a quote is opened and not closed"), number
    if opened is not None and ("EOF" in message or (_BINDING.match(lines[number - 1]) and number > opened[0])):
        return _said(lines, opened[0], f"the bracket {opened[1]!r} is opened and not closed"), opened[0]
    rest = lines[number - 1][column:].strip()
    if "EOF in multi-line statement" in message or rest == "\\":
        number = next((index for index in range(number, 0, -1) if lines[index - 1].rstrip().endswith("\\")), number)
        return _said(lines, number, "the line ends with '\\', and there is no next one that it would go on in"), number
    if "too many nested" in message:
        return "brackets are nested too deeply", number
    if isinstance(error, IndentationError):
        return _said(lines, number, "it is indented unlike the lines before it"), number
    if "Failed to parse token" in message and not rest.startswith(tuple(_ODD_QUOTES)):
        return _said(lines, number, _wrong_word(message, rest, known)), number
    if "Couldn't parse statement" in message or "Unexpected token" in message or message.startswith("Malformatted"):
        return _said(lines, number, f"{_EXAMPLE}, found {_brief(lines[number - 1].strip())}"), number
    if "Unable to parse value" in message or "Failed to parse token" in message:  # before Python 3.12, and since
        return _said(lines, number, _no_value(rest)), number
    if message.startswith("Expected newline"):
        return _said(lines, number, _surplus(lines[number - 1], rest)), number
    expected = re.match(r"Expected ('.' or '.'|'.'|'import'|file path as string)", message)
    if expected:
        return _said(
            lines, number, f"expected {expected.group(1)} before {_brief(rest) or 'the end of the line'}"
        ), number
    return _said(lines, number, message.strip().partition("\n")[0].rstrip(".")), number


def _place(error: Exception, lines: list[str]) -> tuple[int, int]:
    """Number of the line and of the character in it (from 0), as well as the error tells them."""
    if isinstance(error, SyntaxError):
        number, column = error.lineno or 1, error.offset or 0
    else:
        number, column = error.args[1] if len(error.args) > 1 and isinstance(error.args[1], tuple) else (1, 0)
        if "EOF in multi-line statement" in str(error.args[0]):
            number, column = len(lines), 0  # from Python 3.12 on the place is the beginning of the last line
    return min(max(number, 1), len(lines)), column


def _opened_bracket(lines: list[str], number: int, column: int) -> tuple[int, str] | None:
    """Line and kind of the innermost bracket that is open before a place; quoted text and comments do not count."""
    opened: list[tuple[int, str]] = []
    for index, line in enumerate(lines[:number], 1):
        line = line[:column] if index == number else line
        for each in re.sub(r"""'(\\.|[^'\\])*'|"(\\.|[^"\\])*"|#.*""", "", line):
            if each in _CLOSING:
                opened.append((index, each))
            elif opened and each in _CLOSING.values():
                opened.pop()
    return opened[-1] if opened else None


def _said(lines: list[str], number: int, problem: str) -> str:
    """The problem, after the name of the binding that it is in."""
    for line in reversed(lines[:number]):
        binding = _BINDING.match(line)
        if binding:
            return f"{_brief(binding.group(1))}: {problem}"
        if line.strip() and not line[0].isspace():
            break
    return problem


def _wrong_word(message: str, rest: str, known: Collection[str]) -> str:
    """About a value that begins with a word, a number or a quote, and is none of Python's."""
    word = message.partition("Failed to parse token '")[2].removesuffix("'")
    if "unicode" in message:
        return f"{_brief(rest)} has a backslash, which means something within quotes. Write '/', or two backslashes"
    if "digits" in message:
        return "a number of too many digits"
    if re.match(r"""[fbru]{1,2}['"]""", word, re.IGNORECASE):
        return f"a text begins with a quote, not with a letter before it: found {_brief(rest)}"
    if word.lower() in _CONSTANTS and _only_word(word, rest):
        return f"expected {_CONSTANTS[word.lower()]}, with a capital letter and no quotes, found {_brief(word)}"
    if word in known:
        return f"a reference begins with '@': expected @{word}, found {_brief(rest)}"
    return f"a text stands in quotes: expected {_quoted(rest)}, found {_brief(rest)}"


def _only_word(word: str, rest: str) -> bool:
    return not re.match(r"[\w/\\.:-]", rest.removeprefix(word))


def _no_value(rest: str) -> str:
    if not rest or rest.startswith("#"):
        return "a value is missing after '='"
    if rest[0] in "'\"":
        return f"a quote is opened and not closed: {_brief(rest)}"
    if rest[0] in _ODD_QUOTES:
        return f"expected straight quotes, ' or \", found {_brief(rest)}"
    if rest[0] == "=":
        return "one '=' is enough"
    if re.match(r"[/~.\\$]", rest):
        return f"a text stands in quotes: expected {_quoted(rest)}, found {_brief(rest)}"
    return f"expected a value, found {_brief(rest)}"


def _surplus(line: str, rest: str) -> str:
    """About something that stands after a value."""
    value = line.partition("=")[2].strip()
    if not line.partition("=")[1] or ":" in line.partition("=")[0]:
        return f"a binding has '=' between name and value, found {_brief(line.strip())}"
    if rest.startswith(","):
        return f"several values stand in brackets: expected ({_brief(value)})"
    if rest and rest[0] in ")]}":
        return f"the bracket {rest[0]!r} closes nothing"
    if rest.startswith(";"):
        return "a line ends without ';'"
    if rest and rest[0] in "+*/-%<>&|":
        return f"expected one value: gin does not calculate, found {_brief(value)}"
    return f"expected one value, found {_brief(value)}"


def _quoted(text: str) -> str:
    return f'"{_brief(re.split(r":?[,)}} ]|:?]|:$", text)[0])}"'


def _brief(text: str) -> str:
    return screen.shown(text if len(text) <= _MAX_SHOWN else f"{text[: _MAX_SHOWN - 3]}...")
