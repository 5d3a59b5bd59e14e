"""The page at / in a real browser: what a person with a keyboard, a phone or a key would do."""

from __future__ import annotations

import re
import subprocess

import pytest

import browser as browsers
from browser import ENTER, ESCAPE, SHIFT, TAB
from fake_server import PAGE, ROOT, FakeServer, hash_of

FOUND = browsers.find()
needs_browser = pytest.mark.skipif(
    FOUND is None, reason="no Chromium: install the packages chromium and chromium-driver"
)


@pytest.fixture(scope="module")
def chromium(tmp_path_factory):
    chromium = browsers.Browser(*FOUND, tmp_path_factory.mktemp("chromium"))
    yield chromium
    chromium.close()


@pytest.fixture
def server():
    server = FakeServer()
    yield server
    server.close()


@pytest.fixture
def page(chromium, server):
    chromium.resize(1000, 760)
    chromium.color_scheme("light")
    chromium.open(server.url)
    chromium.run("sessionStorage.clear()")
    chromium.open(server.url)
    chromium.wait(lambda: chromium.text("#model") == "tiny-model" or server.key, "the model's name")
    chromium.messages()
    return chromium


def answers(page) -> list[str]:
    return page.run(
        "return [...document.querySelectorAll('article.assistant .text')].map(e => e.textContent)"
    )


def idle(page) -> bool:
    return page.visible("#send") and not page.visible("#stop")


def ask(page, text: str) -> None:
    page.keys(text, ENTER)
    page.wait(lambda: idle(page), "the answer's end")


def test_one_file_without_outside_resources():
    html = PAGE.read_text(encoding="ascii")
    assert len(html) < 40_000
    for forbidden in ("innerHTML", "outerHTML", "insertAdjacentHTML", "document.write", "eval("):
        assert forbidden not in html
    # The one name of a place elsewhere is SVG's own, which nothing is fetched from.
    assert re.findall(r"\w+://[^\s'\"]*", html) == ["http://www.w3.org/2000/svg"]
    assert not re.search(r"<(script|link|img|iframe)\b[^>]*\b(src|href)=\"(?!data:)", html)
    assert not re.search(r"\s(on\w+|style)=", html)


def test_embedding_keeps_every_byte_and_hashes_what_stands_between_the_tags(tmp_path):
    for size in (0, 1, 2, 13, 14, 15):
        data = tmp_path / "data.json"
        data.write_bytes(bytes(range(0x20, 0x20 + size)) + b';[]\\"$\n\xc3\xa9')
        output = tmp_path / "embedded.cc"
        arguments = [f"-DPAGE={PAGE}", f"-DOPENAPI={data}", f"-DOUTPUT={output}"]
        script = ["-P", str(ROOT / "cmake/EmbedFiles.cmake")]
        subprocess.run(["cmake", *arguments, *script], check=True, capture_output=True)
        source = output.read_text()
        arrays = re.findall(r"Bytes\[\] = \{(.*?)\};", source, re.S)
        embedded = [bytes.fromhex("".join(re.findall(r"\\x(..)", array))) for array in arrays]
        assert embedded == [PAGE.read_bytes(), data.read_bytes()]
        assert f'kPageScriptHash = "{hash_of(b"script")}"' in source
        assert f'kPageStyleHash = "{hash_of(b"style")}"' in source


@needs_browser
def test_first_look(page, server):
    page.wait(lambda: page.text("#queue") == "1 running · 2 waiting", "the queue")
    server.running, server.waiting = 3, 0
    page.wait(lambda: page.text("#queue") == "3 running · 0 waiting", "the queue to change")
    assert page.focused() == "prompt"
    assert page.run("return document.title") == "tiny-model · liquid"
    assert page.messages() == []
    assert {path for _, path, _ in server.requests} == {"/", "/v1/models", "/metrics"}


@needs_browser
def test_chat_with_the_keyboard(page, server):
    page.keys("one")
    page.chord(SHIFT, ENTER)
    ask(page, "two")
    assert answers(page) == ["Hello there."]
    assert page.focused() == "prompt"
    assert page.text("#announcer") == "Hello there."
    assert "3 tokens" in page.text("article.assistant .note")
    assert "first token" in page.text("#speed")
    server.pieces = ["Gr", "üße", " 😀"]
    ask(page, "again")
    assert answers(page) == ["Hello there.", "Grüße 😀"]
    first, second = server.chats()
    assert first == {
        "model": "tiny-model",
        "messages": [{"role": "user", "content": "one\ntwo"}],
        "stream": True,
        "stream_options": {"include_usage": True},
    }
    assert second["messages"] == [
        {"role": "user", "content": "one\ntwo"},
        {"role": "assistant", "content": "Hello there."},
        {"role": "user", "content": "again"},
    ]
    assert page.messages() == []


@needs_browser
def test_nothing_is_sent_for_nothing(page, server):
    page.keys("  ", ENTER)
    page.chord(SHIFT, ENTER)
    page.keys(ENTER)
    assert server.chats() == []


@needs_browser
def test_text_is_never_html(page, server):
    evil = "<img src=x onerror='window.bad=1'><script>window.bad=2</script><b>bold</b>"
    server.pieces = list(evil)
    ask(page, evil)
    assert answers(page) == [evil]
    assert page.text("article.user .text") == evil
    assert page.run("return document.querySelectorAll('article img, article script, b').length") == 0
    assert page.run("return window.bad ?? null") is None


@needs_browser
def test_the_policy_stops_foreign_code(page):
    page.run(
        "const script = document.createElement('script');"
        "script.textContent = 'window.bad = 1';"
        "document.body.append(script);"
        "const link = document.createElement('a');"
        "link.setAttribute('onclick', 'window.bad = 2');"
        "document.body.append(link); link.click();"
    )
    assert page.run("return window.bad ?? null") is None
    assert any("Content Security Policy" in message for message in page.messages())


@needs_browser
def test_settings_with_the_keyboard(page, server):
    page.chord(SHIFT, TAB)  # the conversation
    assert page.focused() == "scroller"
    page.chord(SHIFT, TAB)
    assert page.focused() == "toggle"
    page.keys(ENTER)
    assert page.run("return document.getElementById('toggle').ariaExpanded") == "true"
    order = []
    values = {"system": "Be brief.", "temperature": "0.5", "max_tokens": "7", "seed": "-3",
              "top_k": "40", "min_p": "0.05", "presence_penalty": "0.25"}
    while not order or order[-1] != "key":
        page.keys(TAB)
        order.append(page.focused())
        page.keys(values.get(order[-1], ""))
    assert order == ["scroller", "system", "temperature", "max_tokens", "top_p", "top_k", "min_p",
                     "seed", "presence_penalty", "frequency_penalty", "repetition_penalty", "key"]
    page.keys(ESCAPE)
    assert not page.visible("#settings")
    assert page.focused() == "toggle"
    page.run("document.getElementById('prompt').focus()")
    ask(page, "hi")
    body = server.chats()[0]
    assert body["messages"][0] == {"role": "system", "content": "Be brief."}
    assert {name: body.get(name) for name in values if name != "system"} == {
        "temperature": 0.5, "max_tokens": 7, "seed": -3, "top_k": 40, "min_p": 0.05,
        "presence_penalty": 0.25}
    assert "top_p" not in body and "frequency_penalty" not in body


@needs_browser
def test_every_control_has_a_name(page):
    nameless = page.run(
        "return [...document.querySelectorAll('input, textarea, button')]"
        ".filter(e => !(e.labels?.length || e.textContent.trim())).map(e => e.id)"
    )
    assert nameless == []


@needs_browser
def test_a_wrong_setting_is_shown_and_not_sent(page, server):
    page.run("document.getElementById('temperature').value = '5'")
    page.keys("hi", ENTER)
    assert page.visible("#settings")
    assert page.focused() == "temperature"
    assert server.chats() == []


@needs_browser
def test_escape_stops(page, server):
    server.pieces, server.delay = ["word "] * 400, 0.05
    page.keys("tell me", ENTER)
    page.wait(lambda: len(answers(page)) == 1 and answers(page)[0].count("word") >= 3, "words")
    assert page.visible("#stop") and not page.visible("#send")
    assert re.fullmatch(r"\d+ tokens · [\d.]+ tokens/s · first token [\d.]+ m?s",
                        page.text("#speed"))
    page.keys(ESCAPE)
    page.wait(lambda: idle(page), "the stop")
    assert server.disconnected.wait(10)
    assert page.text("article.assistant .note").startswith("stopped · ")
    assert page.text("#announcer").startswith("Stopped. word")
    # What was there by then stays part of the conversation.
    server.pieces, server.delay = ["Yes."], 0.0
    ask(page, "more")
    assert server.chats()[1]["messages"][1]["content"].startswith("word word")


@needs_browser
def test_new_chat_forgets(page, server):
    ask(page, "hi")
    page.run("document.getElementById('new-chat').click()")
    assert answers(page) == []
    assert page.focused() == "prompt"
    ask(page, "anew")
    assert server.chats()[1]["messages"] == [{"role": "user", "content": "anew"}]
    # One that begins in the middle of an answer: nothing of that answer is left.
    server.pieces, server.delay = ["late "] * 200, 0.05
    page.keys("slow", ENTER)
    page.wait(lambda: "late" in "".join(answers(page)), "the slow answer")
    page.run("document.getElementById('new-chat').click()")
    page.wait(lambda: idle(page), "the stop")
    assert answers(page) == []
    server.pieces, server.delay = ["Now."], 0.0
    ask(page, "again")
    assert answers(page) == ["Now."]
    assert server.chats()[-1]["messages"] == [{"role": "user", "content": "again"}]


@needs_browser
def test_key(chromium, server):
    server.key = "secret-key"
    chromium.resize(1000, 760)
    chromium.open(server.url)
    chromium.run("sessionStorage.clear()")
    chromium.open(server.url)
    chromium.wait(lambda: chromium.text("#queue") == "API key needed", "the question for a key")
    ask(chromium, "hi")
    assert "API key" in chromium.text("#alert")
    assert chromium.visible("#key")
    assert chromium.run("return document.getElementById('prompt').value") == "hi"
    chromium.run("document.getElementById('key').focus()")
    chromium.keys("secret-key", TAB)
    chromium.wait(lambda: chromium.text("#model") == "tiny-model", "the model's name")
    assert not chromium.visible("#alert")
    chromium.run("document.getElementById('prompt').focus()")
    ask(chromium, "")
    assert answers(chromium) == ["Hello there."]
    stored = chromium.run("return [sessionStorage['liquid.key'], localStorage.length, document.cookie]")
    assert stored == ["secret-key", 0, ""]
    assert not any("secret-key" in path for _, path, _ in server.requests)


@needs_browser
def test_errors_are_told_and_the_question_comes_back(page, server):
    server.refusal = (400, "the prompt is too long")
    ask(page, "long question")
    assert page.text("#alert") == "the prompt is too long"
    assert answers(page) == []
    assert page.run("return document.getElementById('prompt').value") == "long question"
    server.refusal = None
    ask(page, "?")
    assert not page.visible("#alert")
    assert server.chats()[-1]["messages"] == [{"role": "user", "content": "long question?"}]
    server.error_event = "the output was not finite"
    ask(page, "go on")
    assert page.text("#alert") == "the output was not finite"
    assert answers(page)[-1] == "Hello there."
    server.close()
    page.wait(lambda: page.text("#queue") == "server not reachable", "the poll to fail")
    ask(page, "anyone?")
    assert page.text("#alert") == "The server cannot be reached."


@needs_browser
def test_a_limit_is_named(page, server):
    server.finish = "length"
    ask(page, "hi")
    assert page.text("article.assistant .note").startswith("cut off at the token limit · ")


CONTRAST = """
const luminance = (color) => {
  const [r, g, b] = color.match(/[\\d.]+/g).slice(0, 3).map(Number).map((value) => {
    const part = value / 255;
    return part <= 0.04045 ? part / 12.92 : ((part + 0.055) / 1.055) ** 2.4;
  });
  return 0.2126 * r + 0.7152 * g + 0.0722 * b;
};
const background = (element) => {
  for (let e = element; e; e = e.parentElement) {
    const color = getComputedStyle(e).backgroundColor;
    if (!/^rgba\\(.*, 0\\)$/.test(color)) return color;
  }
  return 'rgb(255, 255, 255)';
};
const low = {};
for (const e of document.querySelectorAll('h1, #model, button, p, label, input, textarea, #status span, h2')) {
  if (!e.getClientRects().length || e.closest('.visually-hidden')) continue;
  const [a, b] = [getComputedStyle(e).color, background(e)].map(luminance);
  const contrast = (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
  if (contrast < 4.5) low[e.id || e.tagName] = contrast;
}
return low;
"""


@needs_browser
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_readable_in_both_schemes(page, server, scheme):
    page.color_scheme(scheme)
    ask(page, "hi")
    page.run("document.getElementById('toggle').click()")
    assert page.run(CONTRAST) == {}
    ground = page.run("return getComputedStyle(document.body).backgroundColor.match(/\\d+/g)[0]")
    assert (int(ground) > 128) == (scheme == "light")


@needs_browser
@pytest.mark.parametrize("settings", [False, True])
def test_on_a_phone(page, server, settings):
    page.resize(360, 640)
    server.pieces = ["wide" * 60 + " ", "text " * 300]
    ask(page, "hi")
    if settings:
        page.run("document.getElementById('toggle').click()")
    assert page.run("return document.documentElement.scrollWidth") <= 360
    assert page.run("return document.documentElement.scrollHeight") <= 640
    for control in ("prompt", "send", "toggle", "new-chat"):
        box = page.run("return document.getElementById(arguments[0]).getBoundingClientRect()", control)
        assert box["left"] >= 0 and box["right"] <= 360, control
        assert box["top"] >= 0 and box["bottom"] <= 640, control
        assert box["height"] >= 36, control
    if not settings:  # the end of the answer is in view
        assert page.run(
            "const s = document.getElementById('scroller');"
            "return s.scrollHeight - s.scrollTop - s.clientHeight"
        ) < 40
