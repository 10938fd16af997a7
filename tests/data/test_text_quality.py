"""What is wrong with one text, and what only looks like it."""

from __future__ import annotations

import pytest

from fairlead.data.checks.text_quality import (
    foreign_script,
    has_email,
    is_truncated,
    language,
    secret,
    template_token,
)

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
