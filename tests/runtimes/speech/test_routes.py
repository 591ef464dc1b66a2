"""The audio routes of a real server, called with the official SDK."""

from __future__ import annotations

import io
import json
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import jiwer
import openai
import pytest

from runtimes.audio.encoding import FORMATS, encode_audio
from runtimes.speech.reading import RATE
from tests.runtimes.serving import RunningServer
from tests.runtimes.speech.clips import ENGLISH, TEXTS, clip, plain, recording, samples_of, silence

pytestmark = [pytest.mark.weights, pytest.mark.timeout(300)]
URL = "/v1/audio/transcriptions"


def post(server: RunningServer, content: bytes, *, path: str = URL, **fields: Any) -> Any:
    return server.http.post(path, files={"file": ("clip", content)}, data={"model": "speech-demo"} | fields)


def error_of(answer: Any) -> tuple[int, str | None, str]:
    error = answer.json()["error"]
    return answer.status_code, error["param"], error["message"]


def test_clips_that_arrive_together_are_heard_together(speech_server: RunningServer) -> None:
    client = speech_server.openai

    def transcribe(name: str) -> str:
        file = (f"{name}.ogg", clip(name))
        return client.audio.transcriptions.create(model="speech-demo", file=file).text

    with ThreadPoolExecutor(len(ENGLISH)) as pool:
        heard = list(pool.map(transcribe, ENGLISH))

    assert jiwer.wer([plain(TEXTS[name]) for name in ENGLISH], [plain(text) for text in heard]) < 0.05


def test_a_recording_longer_than_a_window_comes_with_the_times_of_segments_and_words(
    speech_server: RunningServer,
) -> None:
    answer = speech_server.openai.audio.transcriptions.create(
        model="speech-demo",
        file=("long.flac", recording(ENGLISH, pause=2.0)),
        response_format="verbose_json",
        timestamp_granularities=["segment", "word"],
        language="en",
    )

    assert jiwer.wer(" ".join(plain(TEXTS[name]) for name in ENGLISH), plain(answer.text)) < 0.1
    assert (answer.language, answer.usage and answer.usage.type) == ("english", "duration")
    assert answer.duration == pytest.approx(sum(len(samples_of(it)) / RATE + 2 for it in ENGLISH), abs=0.1)
    times = [(segment.start, segment.end) for segment in answer.segments or []]
    assert times == sorted(times) and times[-1][1] <= answer.duration
    assert all(start < end for start, end in times)
    words = answer.words or []
    assert [word.word for word in words] == answer.text.split()
    assert [word.start for word in words] == sorted(word.start for word in words)
    # The last clip begins where the ones before it end; a first word takes in what it can of the pause.
    last = sum(len(samples_of(name)) / RATE + 2 for name in ENGLISH[:-1])
    first_word = next(word for word in words if word.word == "There")
    assert last - 2 <= first_word.start <= last + 0.5 and first_word.end > last


def test_a_stream_tells_each_window_and_then_the_whole(speech_server: RunningServer) -> None:
    with speech_server.openai.audio.transcriptions.create(
        model="speech-demo", file=("long.flac", recording(ENGLISH, pause=2.0)), stream=True, language="en"
    ) as stream:
        events = list(stream)

    deltas = [event.delta for event in events if event.type == "transcript.text.delta"]
    done = events[-1]
    assert len(deltas) >= 2
    assert done.type == "transcript.text.done"
    assert done.text == "".join(deltas)


def test_german_is_recognized_and_translated(speech_server: RunningServer) -> None:
    file = ("clip.ogg", clip("de-1"))
    heard = speech_server.openai.audio.transcriptions.create(
        model="speech-demo", file=file, response_format="verbose_json"
    )
    translated = post(speech_server, clip("de-1"), path="/v1/audio/translations").json()["text"]

    assert heard.language == "german"
    assert "möchte" in heard.text
    assert {"coffee", "cake"} <= set(plain(translated).split())


@pytest.mark.parametrize("language", ["lb", "Luxembourgish", "EN"])
def test_a_language_is_named_by_code_or_in_english(language: str, speech_server: RunningServer) -> None:
    answer = post(speech_server, clip("en-5"), language=language, response_format="verbose_json").json()

    assert answer["language"] == ("english" if language == "EN" else "luxembourgish")
    assert answer["text"]


def test_subtitles(speech_server: RunningServer) -> None:
    srt = post(speech_server, clip("en-1"), response_format="srt", language="en").text
    vtt = post(speech_server, clip("en-1"), response_format="vtt", language="en").text
    text = post(speech_server, clip("en-1"), response_format="text", language="en").text

    number, times, line = srt.splitlines()
    assert (number, line) == ("1", TEXTS["en-1"])
    assert times.startswith("00:00:00,") and "--> 00:00:0" in times
    assert vtt.splitlines() == ["WEBVTT", "", times.replace(",", "."), TEXTS["en-1"]]
    assert text == TEXTS["en-1"] + "\n"


@pytest.mark.parametrize("format", sorted(FORMATS.keys() - {"pcm"}))
def test_every_usual_format_is_read(format: str, speech_server: RunningServer) -> None:
    content = encode_audio(samples_of("en-5"), rate=RATE, format=format)

    assert plain(post(speech_server, content, language="en").json()["text"]) == plain(TEXTS["en-5"])


def test_silence_has_no_text(speech_server: RunningServer) -> None:
    two_hours = encode_audio(silence(7200), rate=RATE, format="flac")

    answer = post(speech_server, two_hours, response_format="verbose_json").json()

    assert (answer["text"], answer["segments"], answer["duration"]) == ("", [], 7200)


def test_two_silent_hours_as_wav_are_too_large(speech_server: RunningServer) -> None:
    answer = post(speech_server, encode_audio(silence(7200), rate=RATE, format="wav"))

    assert error_of(answer) == (413, "file", "The form is larger than 25 MiB.")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "The file is empty."),
        (b"no audio at all" * 99, "it cannot be read as audio, or is damaged"),
        (b"#EXTM3U\n#EXTINF:1,\n/etc/passwd\n", "it cannot be read as audio, or is damaged"),
        (clip("en-1")[:500], "it cannot be read as audio, or is damaged"),
    ],
)
def test_a_file_that_is_no_audio(content: bytes, message: str, speech_server: RunningServer) -> None:
    status, param, said = error_of(post(speech_server, content))

    assert (status, param) == (400, "file")
    assert message in said


@pytest.mark.parametrize(
    ("fields", "param", "message"),
    [
        ({"language": "klingon"}, "language", "does not know the language 'klingon'. It knows af, am, ar"),
        ({"temperature": "-1"}, "temperature", "greater than or equal to 0"),
        ({"temperature": "warm"}, "temperature", "valid number"),
        ({"response_format": "docx"}, "response_format", "'json', 'text'"),
        ({"timestamp_granularities[]": "word"}, None, "needs response_format=verbose_json"),
        ({"stream": "true", "response_format": "srt"}, None, "needs response_format=json or text"),
        ({"include[]": "logprobs"}, "include", "does not honor it"),
        ({"beam": "9"}, "beam", "does not honor it"),
    ],
)
def test_a_wrong_field_is_named(
    fields: dict[str, str], param: str | None, message: str, speech_server: RunningServer
) -> None:
    status, named, said = error_of(post(speech_server, clip("en-1"), **fields))

    assert (status, named) == (400, param)
    assert message in said


def test_other_models_files_and_types_are_refused(speech_server: RunningServer) -> None:
    assert error_of(post(speech_server, clip("en-1"), model="other"))[:2] == (404, "model")
    without = speech_server.http.post(URL, files={"voice": b"x"}, data={"model": "speech-demo"})
    assert error_of(without)[:2] == (400, "file")
    nothing = speech_server.http.post(URL, files={"file": (None, "text")}, data={"model": "speech-demo"})
    assert error_of(nothing)[:2] == (400, "file")
    assert error_of(speech_server.http.post(URL, json={"model": "speech-demo"}))[0] == 415


def test_more_requests_than_places_are_refused_and_all_others_answered(
    speech_server: RunningServer,
) -> None:
    content = recording(ENGLISH[:4])
    client = speech_server.openai

    def transcribe(_: int) -> str:
        try:
            file = ("clip.flac", io.BytesIO(content))
            answer = client.audio.transcriptions.create(model="speech-demo", file=file, language="en")
        except openai.RateLimitError as error:
            assert int(error.response.headers["retry-after"]) >= 1
            return "refused"
        return "answered" if answer.text else "empty"

    with ThreadPoolExecutor(14) as pool:
        results = list(pool.map(transcribe, range(14)))

    assert set(results) <= {"answered", "refused"}
    assert results.count("answered") >= 10


def test_it_says_what_it_runs_on(speech_server: RunningServer) -> None:
    info = json.loads(speech_server.http.get("/info").text)

    assert (info["engine"], info["precision"], info["parameters"]) == (
        "ctranslate2-whisper",
        "int8",
        72593920,
    )
    assert info["memory"]["measured_peak_bytes"] < info["memory"]["predicted_bytes"]
