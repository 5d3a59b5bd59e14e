"""Renders chat templates with Jinja2, configured as Hugging Face transformers configures it.

    python tests/data/chat/make_goldens.py        (needs transformers and jinja2)

Writes goldens.json beside this file. smollm2.jinja is the template of SmolLM2-135M-Instruct
(Hugging Face TB, Apache-2.0). The others are written for this project: they use what the templates
of Llama 3, Llama 3.1, Qwen2.5, Qwen3, Mistral and tool-calling Hermes models use, with other words.
"""

import json
import pathlib

from transformers.utils.chat_template_utils import _compile_jinja_template

FOLDER = pathlib.Path(__file__).parent


def user(content):
    return {"role": "user", "content": content}


def assistant(content, **more):
    return {"role": "assistant", "content": content, **more}


def call(arguments, content="", name="get_weather"):
    function = {"name": name, "arguments": arguments}
    calls = [{"id": "abcdefghi", "type": "function", "function": function}]
    return assistant(content, tool_calls=calls)


def result(content):
    return {"role": "tool", "name": "get_weather", "tool_call_id": "abcdefghi", "content": content}


SYSTEM = {"role": "system", "content": " You are\u00a0kind.\n"}
TOOLS = [
    {
        "type": "function",
        "function": {
            "name": "get_weather",
            "description": 'weather of a "place" <é>',
            "parameters": {
                "type": "object",
                "properties": {
                    "place": {"type": "string", "description": "Ort 日本"},
                    "unit": {"type": "string", "enum": ["c", "f"]},
                    "days": {"type": ["integer", "null"], "default": 3, "maximum": 1.5},
                    "where": {
                        "type": "object",
                        "properties": {"lat": {"type": "number"}, "tags": {"type": "array", "items": {"type": "string"}}},
                        "required": ["lat"],
                    },
                    "secret": {"type": "string", "hidden": True},
                },
                "required": ["place"],
            },
            "return": {"type": "string"},
        },
    },
    {"type": "function", "function": {"name": "ping", "description": "", "parameters": {"type": "object", "properties": {}}}},
]
CONVERSATIONS = {
    "one": [user("Hello")],
    "system": [SYSTEM, user("Hello"), assistant("Hi! "), user(" again\n")],
    "long": [user("a"), assistant("b"), user("c"), assistant("d"), user("e")],
    "unicode": [user("Grüße 😀 日本語 \u200b\u2028 <b>&'\"</b> \x07 \\n")],
    "empty": [user("")],
    "thinking": [user("1+1?"), assistant("<think>\nhmm\n</think>\n\n2"), user("and 2+2?"), assistant("<think>two\n</think>4")],
    "reasoning": [user("1+1?"), assistant("2", reasoning_content="\nsum\n"), user("?"), assistant("4", reasoning_content="more")],
    "tool": [SYSTEM, user("weather?"), call({"place": "Zürich", "unit": "c", "n": [1, 2.5, None, True]}), result("22 °C"), assistant("It is 22."), user("thanks")],
    "results": [user("weather?"), call({"place": "x"}, "Let me look."), result('{"t": 22}'), result("r2")],
    "text_arguments": [user("w"), call('{"place": "x"}'), result("r")],
    "wrong_order": [assistant("x"), assistant("y")],
    "none": [],
}

# One small template for each construct; the name says which.
CONSTRUCTS = {
    "literals": "{{ [1, 2.0, 1e20, 1.5e-7, 0x1F, 1_000, 'a', \"b'c\", none, true, False, (1,), (), {}, {'k': [1]}] }}",
    "strings": r"""{{ 'tab\tnew\nline\x41\u00e9\'' ~ "q\"\\" ~ 'é' 'joined' }}{{ ['\x07', '\u2028', "it's", 'both\'"'] }}""",
    "arithmetic": "{{ 7 // 2, -7 // 2, 7 % -3, 2 ** 3 ** 2, 7 / 2, -2 ** 2, 1.5 // 0.4, 3 * 'ab', [0] * 3, 'a' ~ 1 ~ none }}",
    "comparison": "{{ 1 < 2 < 3, 1 == 1.0, 'a' < 'b', [1, 2] < [1, 3], 'x' in 'axb', 2 not in [1], 'k' in {'k': 1}, not 1 == 2 }}",
    "logic": "{{ 0 or 'x', 1 and '', not none, 'a' if 0, 'a' if 0 else 'b', undefined_name or 'u' }}",
    "undefined": "{{ missing }}|{{ missing is defined }}|{{ missing | default('d') }}|{{ [missing] }}|{{ '' | default('e', true) }}{% for x in missing %}x{% endfor %}",
    "slices": "{{ 'héllo'[1:3], 'abc'[::-1], [1, 2, 3, 4][-3:-1], (1, 2, 3)[::2], 'abc'[5:], range(10)[2:8:3], [1, 2][9:], 'é日'[1] }}",
    "items": "{% for k, v in {'a': 1, 'b': [2]}.items() %}{{ loop.index }}{{ k }}={{ v }};{% endfor %}{{ {'a': 1}.keys() }}{{ {1: 'x'}[1] }}{{ {'a': 1}.get('z') }}",
    "loop": "{% for x in 'abcd' %}{{ [loop.index, loop.index0, loop.revindex, loop.revindex0, loop.first, loop.last, loop.length, loop.previtem, loop.nextitem, loop.cycle('o', 'e')] }}\n{% endfor %}",
    "loop_filter": "{% for x in range(9) if x is odd %}{{ x }}/{{ loop.index }}/{{ loop.length }}{{ ',' if not loop.last }}{% else %}none{% endfor %}",
    "loop_else": "{% for x in [] %}x{% else %}empty{% endfor %}{% for x in [1] %}{% break %}{% else %}broken{% endfor %}",
    "loop_control": "{% for x in range(9) %}{% if x == 2 %}{% continue %}{% endif %}{% if x > 4 %}{% break %}{% endif %}{{ x }}{% endfor %}",
    "loop_changed": "{% for x in [1, 1, 2, 2, 1] %}{% if loop.changed(x) %}{{ x }}{% endif %}{% endfor %}",
    "scopes": "{% set x = 1 %}{% for i in [1] %}{% set x = 2 %}{{ x }}{% endfor %}{{ x }}{% if true %}{% set x = 3 %}{% endif %}{{ x }}{% with x = 4, y = x %}{{ x }}{{ y }}{% endwith %}{{ x }}",
    "namespace": "{% set ns = namespace(n=0, s='') %}{% for i in [1, 2, 3] %}{% set ns.n = ns.n + i %}{% set ns.s = ns.s ~ i %}{% endfor %}{{ ns.n }} {{ ns.s }} {{ ns }} {{ ns.none_such is defined }}",
    "set_block": "{% set a %}  x {{ 1 + 1 }} {% endset %}[{{ a }}]{% set b | trim | upper %}  y {% endset %}[{{ b }}]{% set c, (d, e) = 1, (2, 3) %}{{ c + d + e }}",
    "macro": "{% macro m(a, b='B', c=a) %}{{ a }}{{ b }}{{ c }}{{ varargs }}{{ kwargs }};{% endmacro %}{{ m(1) }}{{ m(1, 2, 3, 4, z=5) }}{{ m(b=1, a=2) }}{{ m(*[7, 8], **{'c': 9}) }}",
    "macro_scope": "{% set x = 1 %}{% macro m() %}{{ x }}{{ y }}{% endmacro %}{% set x = 2 %}{% set y = 3 %}{{ m() }}{% for x in [9] %}{{ m() }}{% endfor %}",
    "call_block": "{% macro m(n) %}<{{ caller(n, n + 1) }}>{% endmacro %}{% call(a, b) m(5) %}{{ a }}-{{ b }}{% endcall %}",
    "filter_block": "{% filter upper | replace('B', 'x') %}abc{% endfilter %}",
    "generation": "a{% generation %}{% set q = 1 %}b{{ q }}{% endgeneration %}{{ q is defined }}",
    "white_space": "  {% if true %}\n  a\n  {%- if true -%}\n  b  \n  {% endif %}\n{% endif %}\n  {{ 'c' }}\n  {%+ if true +%}\n d\n{% endif %}\n\n",
    "comments": "a\n  {# gone #}\n  b {#- tight -#} c\n{# {{ not }} {% here %} #}d",
    "raw": "{% raw %}{{ not }} {% a %}\n  {% endraw %}x{%- raw -%}  y  {%- endraw -%}  z",
    "carriage_returns": "a\r\nb\rc\n",
    "methods": "{{ ' a '.strip(), 'xxaxx'.lstrip('x'), 'a,b,,c'.split(','), ' a  b '.split(), 'a b c'.split(' ', 1), 'abc'.startswith('a'), 'abc'.endswith(('x', 'c')), 'aXa'.replace('a', 'b', 1), 'ab'.upper(), 'abcabc'.find('c'), 'abab'.count('ab'), '-'.join(['a', 'b']), 'a\\nb\\n'.splitlines(), \"don't stop\".title(), 'straße'.upper(), 'ÀB'.lower(), 'x'.center(4, '*'), 'abc'.rsplit('b'), 'a-b'.partition('-') }}",
    "string_tests": "{{ '12'.isdigit(), 'ab'.isalpha(), 'a1'.isalnum(), ' '.isspace(), 'A'.isupper(), ''.islower(), 'abc'.removeprefix('a'), '7'.zfill(3) }}",
    "formatting": "{{ '%s-%05.2f-%d-%r' | format('a', 3.14159, 7, 'q'), '%(x)s %%' % {'x': 1}, '{} {1} {x:>4} {y:.2f}'.replace('{1}', '{}').format(1, 2, x='r', y=2.5), '%5s|%-5s|' % ('a', 'b') }}",
    "filters_text": "{{ ' x ' | trim, 'abc' | capitalize, 'hello wor-ld (x)' | title, 'a<b' | escape, 'l1\\nl2\\n\\nl3' | indent(2), 'l1\\nl2' | indent(2, true), 3 | string, 'a b' | wordcount, 'aXb' | lower, 'abc' | reverse }}",
    "filters_numbers": "{{ '42' | int, '42.9' | int, 'x' | int(7), '0x1f' | int(0, 16), '1.5' | float, 'y' | float, 3.7 | int, -5 | abs, 2.5 | round, 3.14159 | round(2), 2.1 | round(0, 'ceil'), 7 | round(-1), 12345.678 | round(-2) }}",
    "filters_sequences": "{{ [3, 1, 2] | sort, ['b', 'A', 'c'] | sort, ['b', 'A'] | sort(case_sensitive=true), [3, 1] | sort(reverse=true), [1, 1, 2] | unique | list, ['a', 'A'] | unique | list, [1, 2, 3] | first, [1, 2, 3] | last, [] | first, [1, 2] | sum, [1, 5, 3] | max, 'bca' | min, [1, 2, 3] | reverse | list, {'b': 1, 'a': 2} | dictsort, [1, 2, 3] | batch(2, 0) | list, 'abc' | list, {'a': 1} | list, {'a': 1} | items | list, range(3) | list }}",
    "filters_select": "{% set d = [{'n': 'a', 'v': 1, 'o': {'k': [5]}}, {'n': 'b', 'v': 0, 'o': {'k': [6]}}] %}{{ d | map(attribute='n') | list, d | map(attribute='o.k.0') | join('+'), d | map(attribute='zz', default='-') | list, d | selectattr('v') | map(attribute='n') | list, d | rejectattr('v', 'equalto', 1) | map(attribute='n') | list, [1, 2, 3, 4] | select('odd') | list, [0, 1, none, ''] | select | list, [1, 2] | reject('in', [2]) | list, ['a', 'b'] | map('upper') | join, d | sort(attribute='v') | map(attribute='n') | join, d | sum(attribute='v'), d | join('/', 'n') }}",
    "tojson": "{{ {'a': [1, 2.0, none, true, 'é<&\\'\"\\n\\u0007'], 'b': {}, 'c': [], 'd': (1, 2)} | tojson }}\n{{ {'a': [1, {'b': 2}], 'c': {}} | tojson(indent=2) }}\n{{ {'b': 1, 'a': 2} | tojson(sort_keys=true, separators=(',', ':')) }}{{ 'é😀' | tojson(ensure_ascii=true) }}{{ {1: 2, none: 3, true: 4} | tojson }}",
    "tests": "{{ 1 is number, 1 is integer, 1.0 is float, true is boolean, true is number, 'a' is string, {} is mapping, [] is sequence, 'a' is iterable, 1 is iterable, none is none, 1 is odd, 4 is divisibleby 2, 1 is eq 1, 'a' is in 'abc', 1 is not string, 2 is gt(1), 'A' is upper, x is undefined, range is callable, true is true, 0 is false, 3 is sameas 3 }}",
    "markup": "{{ '<' + ('>' | safe) }}{{ '<a>' | e }}{{ ('<b>' | safe) ~ '<c>' }}{{ [('<' | safe)] }}{{ ('<' | safe).replace('<', '&') }}",
    "range": "{{ range(3) }}{{ range(5, 1, -2) | list }}{{ range(3)[1] }}{{ 2 in range(3) }}{{ range(0) | list }}",
    "dict": "{{ dict(a=1, b=2) }}{{ dict({'x': 1}, y=2) }}{{ dict([('p', 1)]) }}{{ {'a': 1} == {'a': 1.0} }}{{ {'get': 1}.get('get') }}{{ {'items': 1}['items'] }}",
    "print_tag": "{% print 1, 'a' %}{{ 1, 2 }}",
    "unicode_space": "{{ '\u00a0\u3000x\u2003' | trim }}{{ 'a\u00a0b'.split() }}{{ 'é' | length }}{{ 'e\u0301' | list }}",
    "error_undefined_attribute": "{{ missing.name }}",
    "error_raise": "{{ raise_exception('no ' ~ 'way') }}",
    "error_append": "{% set x = [] %}{{ x.append(1) }}",
    "error_types": "{{ 1 + 'a' }}",
    "error_unpack": "{% for a, b in [[1, 2, 3]] %}{% endfor %}",
    "error_zero": "{{ 1 // 0 }}",
    "error_arguments": "{% macro m(a) %}{% endmacro %}{{ m(1, 2) }}",
    "error_syntax": "{% if x %}a",
    "error_range": "{{ range(1000000) }}",
    "error_tojson": "{{ missing | tojson }}",
    "private_names": "[{{ ''.__class__ }}{{ [].append is defined }}{{ {'_a': 1}._a }}{{ {'__b': 1}['__b'] }}]",
}

EXTRA = {
    "no_thinking": ("thinking", {"add_generation_prompt": True, "enable_thinking": False}),
    "own_tools": ("tool", {"own_tools": TOOLS, "today": "2 Feb 2025", "tools_with_user": False}),
    "builtin": ("tool", {"builtin": ["get_weather", "interpreter"]}),
}


def render(template, variables):
    try:
        return {"output": _compile_jinja_template(template).render(**variables)}
    except Exception as error:  # whatever it is, the C++ side must fail too
        return {"error": type(error).__name__}


def main():
    # Conversations and tools are kept once; a case names its conversation.
    common = {"bos_token": "<s>", "eos_token": "</s>", "documents": None}
    cases = []
    for name, template in CONSTRUCTS.items():
        cases.append({"name": name, "template": template, **render(template, {})})
    for path in sorted(FOLDER.glob("*.jinja")):
        template = path.read_text()
        for conversation, messages in CONVERSATIONS.items():
            for tools in (None, TOOLS):
                for prompt in (False, True):
                    case = {
                        "name": f"{path.stem}/{conversation}/{'tools' if tools else 'plain'}/{'ask' if prompt else 'end'}",
                        "file": path.name,
                        "conversation": conversation,
                        "tools": tools is not None,
                        "more": {"add_generation_prompt": prompt},
                    }
                    variables = {**common, "messages": messages, "tools": tools, **case["more"]}
                    cases.append({**case, **render(template, variables)})
        for name, (conversation, more) in EXTRA.items():
            case = {"name": f"{path.stem}/{name}", "file": path.name, "conversation": conversation, "tools": False, "more": more}
            variables = {**common, "messages": CONVERSATIONS[conversation], "tools": None, **more}
            cases.append({**case, **render(template, variables)})
    goldens = {"common": common, "conversations": CONVERSATIONS, "tools": TOOLS, "cases": cases}
    lines = json.dumps(goldens, ensure_ascii=False, indent=1)
    (FOLDER / "goldens.json").write_text(lines + "\n")
    errors = sum("error" in case for case in cases)
    print(f"{len(cases)} goldens, {errors} of them errors")


if __name__ == "__main__":
    main()
