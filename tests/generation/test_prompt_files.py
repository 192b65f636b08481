"""Prompt files: text, JSON Lines and JSON lists, and errors that name the entry."""

import json

import pytest

from vsf.errors import PromptError
from vsf.generation.prompt_files import read
from vsf.text.prompt import Emphasis, Prompt


def test_json_lines_hold_one_prompt_each(tmp_path):
    file = tmp_path / "prompts.jsonl"
    lines = [
        {"prompt": "a (red:1.5) car (wheels:-1)"},
        "a car",
        {"prompt": "a car", "negative": "(wheels:0.5), lights"},
        {"prompt": "a car", "negative": ["wheels", "lights", "wheels", ""]},
        {"prompt": "a car (lights:-1)", "negative": {"wheels": 0.5, "lights": 2}},
        {"prompt": "a\u2028car", "negative": None},
    ]
    text = "\r\n\r\n".join(json.dumps(line, ensure_ascii=False) for line in lines)
    file.write_text(f"\ufeff{text}\n", encoding="utf-8", newline="")
    assert read(file) == [
        Prompt("a red car", {"wheels": 1}, (Emphasis(2, 5, 1.5),)),
        Prompt("a car"),
        Prompt("a car", {"wheels": 0.5, "lights": 1}),
        Prompt("a car", {"wheels": 2, "lights": 1}),
        Prompt("a car", {"wheels": 0.5, "lights": 3}),
        Prompt("a\u2028car"),
    ]


def test_text_holds_one_prompt_per_line(tmp_path):
    file = tmp_path / "prompts.TXT"
    file.write_bytes("\ufeffa red car\r\n\r\n  ein rotes Auto für (Räder:-1)  \n".encode())
    assert read(file) == [Prompt("a red car"), Prompt("ein rotes Auto für", {"Räder": 1})]


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("{'prompt': 'a'}", "not valid JSON: .*, column 2$"),
        ('["a"]', r'expected an object like \{"prompt": "a red car", "negative": "wheels"\}, got \[\'a\'\]'),
        ('{"negative": "a"}', "expected an object like"),
        ('{"prompt": "a (red"}', "at character 3 .* never closed"),
        ('{"prompt": "a", "negative_prompt": "x"}', 'unknown field "negative_prompt"; known are prompt, negative'),
        ('{"prompt": "a", "negative": 3}', "a negative prompt has to be text, got 3"),
        ('{"prompt": "a", "negative": [3]}', "a negative prompt has to be text, got 3"),
        ('{"prompt": "a", "negative": {"x": -1}}', 'weight of the negative "x" has to be a number from'),
        ('{"prompt": "a", "negative": {"x": NaN}}', 'weight of the negative "x" has to be a number from'),
    ],
)
def test_a_line_that_is_no_prompt_is_refused_by_file_and_line(tmp_path, line, message):
    file = tmp_path / "prompts.jsonl"
    file.write_text(f'{{"prompt": "a car"}}\n\n{line}\n', encoding="utf-8")
    with pytest.raises(PromptError, match=rf'prompts\.jsonl", line 3: .*{message}'):
        read(file)


def test_a_file_that_is_missing_empty_or_not_text_is_refused(tmp_path):
    file = tmp_path / "prompts.jsonl"
    with pytest.raises(PromptError, match=r'cannot read the prompt file ".*prompts\.jsonl": No such file'):
        read(file)
    file.write_text("\n \n")
    with pytest.raises(PromptError, match=r'prompts\.jsonl" holds no prompt; write one a line'):
        read(file)
    file.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(PromptError, match="cannot read the prompt file"):
        read(file)
