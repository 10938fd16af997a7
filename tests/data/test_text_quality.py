"""What is wrong with one text, and what only looks like it."""

from __future__ import annotations

import pytest

from fairlead.data.text_quality import (
    foreign_script,
    has_email,
    is_truncated,
    language,
    looping,
    secret,
    template_token,
)
from fairlead.text.near_duplicates import Vocabulary

SENTENCE = "The database of the order service has run out of connections and needs more room"


@pytest.mark.parametrize(
    "text",
    [
        f"{SENTENCE}, and then the",
        f"{SENTENCE} becau",
        f"{SENTENCE},",
        f"{SENTENCE}.\n```python\nprint(1)",
        "The disk is full because",
        "Restart the disk and the",
        "First the disk (",
    ],
)
def test_a_text_that_stops_in_the_middle_is_truncated(text: str) -> None:
    assert is_truncated(text)


@pytest.mark.parametrize(
    "text",
    [
        f"{SENTENCE}.",
        "severity: high",
        "The answer is A",
        "That is what it is used for",
        f"{SENTENCE}:\n- more connections\n- a pool of connections with a limit of a hundred",
        f"{SENTENCE}.\n```python\nprint(1)\n```",
        f"{SENTENCE}, see https://example.com/a-long-address/that-ends-without-a-full-stop",
        f"{SENTENCE}.\nKind regards, Ann",
        f"{SENTENCE} 🎉",
        "",
    ],
)
def test_a_text_that_merely_ends_without_a_full_stop_is_not(text: str) -> None:
    assert not is_truncated(text)


def loops(*texts: str) -> list[bool]:
    vocabulary = Vocabulary()
    return looping(texts, [vocabulary.words(text) for text in texts]).tolist()


def test_a_text_that_ends_in_rounds_of_the_same_words_loops() -> None:
    once, longest = "the disk is full. ", " ".join(f"w{n}" for n in range(24)) + " "
    assert loops("Well, " + once * 4, "yes " * 12, longest * 4, "a" * 60) == [True, True, True, True]


def test_a_loop_in_the_middle_of_a_text_is_found() -> None:
    once = "the disk is full. "
    longest = " ".join(f"w{n}" for n in range(24)) + " "
    found = loops(SENTENCE + ". " + once * 6 + SENTENCE, SENTENCE, "x " + longest * 4 + SENTENCE, *[SENTENCE] * 3)
    assert found == [True, False, True, False, False, False]


@pytest.mark.parametrize("before", range(25))
def test_a_loop_is_found_wherever_it_stands(before: int) -> None:
    lead = " ".join(f"lead{n}" for n in range(before))
    for period in (1, 3, 11, 24):
        rounds = " ".join(f"p{n}" for n in range(period)) + " "
        assert loops(SENTENCE, f"{lead} {rounds * max(4, 12 // period + 1)} end") == [False, True]
        assert loops(SENTENCE, f"{lead} {rounds * 3} end") == [False, False]


def test_repetition_that_is_short_is_no_loop() -> None:
    once = "the disk is full. "
    rule = "-" * 200
    poem = "row row row your boat gently down the stream merrily merrily merrily merrily life is but a dream"
    assert loops(once * 2, once * 3 + SENTENCE, "no no no no", rule, poem, "") == [False] * 6


@pytest.mark.parametrize(
    ("text", "token"),
    [
        ("Sure.<|im_end|>", "<|im_end|>"),
        ("[INST] What? [/INST]", "[INST]"),
        ("ok</s>", "</s>"),
        ("<start_of_turn>model", "<start_of_turn>"),
        ("Yes.\n\nHuman: and then?", "Human:"),
        ("### Response: fine", "### Response:"),
        ("<|eot_id|>", "<|eot_id|>"),
        ("<｜end▁of▁sentence｜>", "<｜end▁of▁sentence｜>"),
    ],
)
def test_tokens_of_chat_templates_are_found(text: str, token: str) -> None:
    assert template_token(text) == token


@pytest.mark.parametrize(
    "text", ["a <s>struck</s", "x <| y", "### Response times", "<b>bold</b>", "Human: hi", "a[INST"]
)
def test_what_is_no_token_of_a_template_is_not(text: str) -> None:
    assert template_token(text) is None


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        ("-----BEGIN RSA PRIVATE KEY-----\nMII", "private key"),
        ("id AKIA" + "ABCDEFGHIJKLMNOP", "AWS key"),
        ("use sk-proj-" + "a1" * 12, "API key"),
        ("ghp_" + "a" * 36, "GitHub token"),
        ("xoxb-" + "1234567890-abc", "Slack token"),
        ("hf_" + "a" * 34, "Hugging Face token"),
        ("postgres://app:s3cret@db.internal/x", "password in a URL"),
        ("sk_live_" + "a1B2" * 6, "API key"),
        ("aws_secret_access_key=" + "aB3/" * 10, "AWS key"),
        ("AWS_SECRET_ACCESS_KEY=" + "aB3/" * 10, "AWS key"),
        ("password: Tr0ub4dor&3", "password"),
        ('"Password": "hunter2hunter2"', "password"),
    ],
)
def test_secrets_are_found_by_kind(text: str, kind: str) -> None:
    assert secret(f"Here: {text} .") == kind


@pytest.mark.parametrize(
    "text",
    [
        "the task-force", "sk-learn", "https://example.com:8080/a@b", "ghp_short", "hf_hub", "sk_live_docs",
        "password: <your-password1>", "password: at least 8 characters", "password=changeme1", "password: ${DB_PASS1}",
        "Password: incorrect", "password = os.environ['PW1']", "the secret of aws_secret_access_key",
    ],
)  # fmt: skip
def test_what_is_no_secret_is_not(text: str) -> None:
    assert secret(text) is None


ASKED = "How do I restart the database?"


@pytest.mark.parametrize(
    ("text", "prompt", "script"),
    [
        (f"{SENTENCE}. 数据库的连接不够，需要更多的空间，请重新启动服务器和数据库", ASKED, "Chinese"),
        (f"{SENTENCE}. Ошибка находится во второй строке", ASKED, "Cyrillic"),
        (f"{SENTENCE}. データベースの接続が足りません、再起動してください", ASKED, "Japanese"),
        (f"{SENTENCE}. 数据库的连接不够，需要更多的空间，请重新启动服务器和数据库", "翻译: database", None),
        ("数据库的连接不够，需要更多的空间 (database connection pool)", ASKED, None),
        (f"{SENTENCE}. In Russian: ошибка.", ASKED, None),
        (f"{SENTENCE}. α β γ δ ε ζ η θ ι κ λ μ ν ξ ο π ρ σ τ υ φ χ ψ ω", ASKED, None),
        (f"{SENTENCE} “quoted” — naïve café", ASKED, None),
    ],
)
def test_a_part_in_another_script_is_found(text: str, prompt: str, script: str | None) -> None:
    assert foreign_script(text, prompt) == script


def test_addresses_of_people_count_and_reserved_ones_do_not() -> None:
    assert has_email("write to ann.lee+x@mail.company.org please")
    assert not has_email("user@example.com, root@localhost, a@b, @name, me@mail.example.org")


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("The answer is in the second part of this book and it is not long", "English"),
        ("Der Fehler ist in der zweiten Zeile und das ist nicht gut für die Leute", "German"),
        ("Le problème est dans la deuxième ligne et il ne faut pas la changer pour le moment", "French"),
        ("El problema es que la base de datos no se puede abrir por la noche", "Spanish"),
        ("Ошибка находится во второй строке файла", "Cyrillic"),
        ("データベースの接続が足りません", "Japanese"),
        ("数据库的连接不够", "Chinese"),
        ("데이터베이스 연결이 부족합니다", "Korean"),
        ("severity: high | service: db", None),
        ("x = 1", None),
    ],
)
def test_the_language_is_told_where_it_is_clear(text: str, name: str | None) -> None:
    assert language(text) == name
