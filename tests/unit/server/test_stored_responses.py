import json

from server.stored_responses import StoredResponse, StoredResponses

PATH = "/v1/responses"


def test_a_whole_answer_and_a_stream_are_seen_by_their_beginning() -> None:
    stored = StoredResponses()
    whole = json.dumps({"id": "resp_abc", "object": "response", "output": []}).encode()
    stored.see(PATH, "w-0", "t", whole)
    created = (
        b'event: response.created\ndata: {"response":{"id":"resp_def","object":"response"},"type":"response.created"}'
    )
    stored.see(PATH, "w-1", "u", created)
    assert stored.find("resp_abc") == StoredResponse("w-0", "t")
    assert stored.find("resp_def") == StoredResponse("w-1", "u")


def test_answers_of_other_routes_and_ids_of_other_kinds_are_none() -> None:
    stored = StoredResponses()
    stored.see("/v1/chat/completions", "w-0", "t", b'{"id": "resp_abc"}')
    stored.see(PATH, "w-0", "t", b'{"id": "chatcmpl-1"}')
    stored.see(PATH, "w-0", "t", b" " * 5000 + b'{"id": "resp_abc"}')
    assert stored.find("resp_abc") is None


def test_the_latest_are_kept_and_no_more() -> None:
    stored = StoredResponses(most=3)
    for number in range(3):
        stored.remember(f"resp_{number}", "w-0", "t")
    stored.remember("resp_0", "w-1", "t")  # once more: it is the latest now
    stored.remember("resp_3", "w-0", "t")
    found = [stored.find(f"resp_{number}") for number in range(4)]
    assert [one and one.worker_id for one in found] == ["w-1", None, "w-0", "w-0"]
