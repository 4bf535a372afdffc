import pytest

from server.prompt import measure


def test_a_text_has_as_many_bytes_as_in_utf_8() -> None:
    assert measure("prompt", "abc").text_bytes == 3
    assert measure("prompt", "Ω€").text_bytes == 5
    assert measure("prompt", "\ud800").text_bytes == 3


def test_texts_of_messages_count_and_words_of_the_format_do_not() -> None:
    messages = [
        {"role": "user", "content": "12345"},
        {"role": "user", "content": [{"type": "text", "text": "678"}, {"type": "text", "text": "90"}]},
        {"role": "tool", "tool_call_id": "", "content": "x"},
        7,
    ]
    prompt = measure("messages", messages)
    assert (prompt.text_bytes, prompt.longest_text_bytes, prompt.tokens) == (11, 11, None)


def test_what_is_no_text_is_not_counted_as_text() -> None:
    image = {"type": "image_url", "image_url": {"url": "data:image/png;base64," + "A" * 10_000}}
    sound = {"type": "input_audio", "input_audio": {"data": "A" * 10_000, "format": "wav"}}
    messages = [{"role": "user", "content": [image, sound, {"type": "text", "text": "what is it?"}]}]
    assert measure("messages", messages).text_bytes == len("what is it?")


def test_the_system_prompt_and_the_tools_are_part_of_the_prompt() -> None:
    alone = measure("messages", [{"role": "user", "content": "abc"}]).text_bytes
    assert measure("messages", [{"role": "user", "content": "abc"}], "be brief").text_bytes == alone + len("be brief")
    with_tools = measure("messages", [{"role": "user", "content": "abc"}], None, [{"name": "find"}])
    assert with_tools.text_bytes == alone + len('[{"name":"find"}]')


@pytest.mark.parametrize(
    ("value", "tokens", "longest"), [([1, 2, 3], 3, 3), ([[1, 2], [3, 4, 5]], 5, 3), ([[1], []], 1, 1)]
)
def test_token_ids_are_counted_exactly(value: object, tokens: int, longest: int) -> None:
    prompt = measure("prompt", value)
    assert (prompt.tokens, prompt.longest_tokens, prompt.most_tokens) == (tokens, longest, longest)


def test_of_several_prompts_the_longest_is_known() -> None:
    prompt = measure("prompt", ["abc", "abcdef", ""])
    assert (prompt.text_bytes, prompt.longest_text_bytes, prompt.tokens) == (9, 6, None)


@pytest.mark.parametrize("value", [None, [], {}, [None], [True, 1], [["a"], [1]], {"a": [{"b": 1.5}]}, [[], {}]])
def test_what_nobody_expects_does_no_harm(value: object) -> None:
    assert measure("prompt", value).text_bytes <= 1


def test_no_text_has_more_tokens_than_assumed() -> None:
    assert measure("prompt", "7" * 1000).most_tokens > 1000
