"""Records conversations as transformers writes and masks them: for templates with generation blocks, the tokens that are learnt. Needs transformers, and trl for
the templates (Apache-2.0). `python chat_templates.py all FILE` records every template that trl has."""
import json
import pathlib
import sys

import trl
from transformers import PreTrainedTokenizerFast

ROOT = pathlib.Path(__file__).parents[2]
TEMPLATES = pathlib.Path(trl.__file__).parent / "chat_templates"
CHOSEN = ["qwen2_5", "qwen2_5_training", "qwen3", "qwen3_training", "llama3", "llama3_training", "llama3_1", "phi3_training", "gemma_training", "deepseek_r1_distill_training"]
OWN = {
    "mistral-style": "{{ bos_token }}{% for m in messages %}{% if m['role'] == 'user' %}{{ '[INST] ' + m['content'] + ' [/INST]' }}"
    "{% elif m['role'] == 'assistant' %}{% generation %}{{ ' ' + m['content'] | trim + eos_token }}{% endgeneration %}"
    "{% else %}{{ raise_exception('Only user and assistant roles are supported!') }}{% endif %}{% endfor %}",
    "white-space": "{% for m in messages %}\n  {% if m.role == 'assistant' %}\n    {%- generation -%}\n    {{ m.content }}<end>\n    {%- endgeneration -%}\n"
    "  {% else %}\n{{ m.role }}: {{ m.content }}\n  {% endif %}\n  {% generation %}\n  {% endgeneration %}\n{% endfor %}\nend",
    "hermes-tools": "{% if tools %}<|im_start|>system\nTools: <tools>{% for tool in tools %}{{ tool | tojson }}\n{% endfor %}</tools><|im_end|>\n{% endif %}"
    "{% for m in messages %}{% if m.role == 'assistant' %}<|im_start|>assistant\n{% generation %}{{ m.content or '' }}{% for call in m.tool_calls or [] %}"
    "<tool_call>\n{{ {'name': call.function.name, 'arguments': call.function.arguments} | tojson }}\n</tool_call>{% endfor %}<|im_end|>\n{% endgeneration %}"
    "{% elif m.role == 'tool' %}<|im_start|>tool\n<tool_response>{{ m.content }}</tool_response><|im_end|>\n{% else %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endif %}{% endfor %}",
}
TOOLS = [{"type": "function", "function": {"name": "weather", "description": "The weather of a place", "parameters": {"type": "object", "properties": {"place": {"type": "string"}}, "required": ["place"]}}}]
TURNS = [
    {"role": "user", "content": "Hi, who are you?"},
    {"role": "assistant", "content": "A zwölf-faced 😀 parrot."},
    {"role": "user", "content": " Bye "},
    {"role": "assistant", "content": "See you.\n\nSoon!"},
]
CASES = {
    "one turn": {"messages": TURNS[:2]},
    "two turns": {"messages": TURNS},
    "system": {"messages": [{"role": "system", "content": "Be brief."}, *TURNS]},
    "thinking": {"messages": [*TURNS[:3], {"role": "assistant", "content": "<think>\nA farewell.\n</think>\n\nSee you."}]},
    "tools": {
        "messages": [
            {"role": "user", "content": "How is it in Rome?"},
            {"role": "assistant", "content": "", "tool_calls": [{"type": "function", "function": {"name": "weather", "arguments": {"place": "Rome"}}}]},
            {"role": "tool", "name": "weather", "content": "sunny"},
            {"role": "assistant", "content": "Sunny."},
        ],
        "tools": TOOLS,
    },
}


def runs(mask):
    """[start, end] of each run of ones."""
    found = []
    for t, flag in enumerate(mask):
        if flag and (t == 0 or not mask[t - 1]):
            found.append([t, t])
        if flag:
            found[-1][1] = t + 1
    return found


def record(tokenizer, template, case):
    marked = "endgeneration" in template
    options = {"chat_template": template, "tools": case.get("tools")}
    try:
        text = tokenizer.apply_chat_template(case["messages"], tokenize=False, **options)
        out = tokenizer.apply_chat_template(case["messages"], return_dict=True, return_assistant_tokens_mask=marked, **options)
    except Exception:  # the template refuses this conversation
        return None
    return {**case, "text": text, "ids": out["input_ids"], **({"learnt": runs(out["assistant_masks"])} if marked else {})}


if __name__ == "__main__":
    folder = ROOT / "examples" / "stories260k"
    special = json.loads((folder / "special_tokens_map.json").read_text())
    text_of = lambda token: token if isinstance(token, str) else token["content"]
    tokenizer = PreTrainedTokenizerFast(tokenizer_file=str(folder / "tokenizer.json"), **{key: text_of(value) for key, value in special.items()})
    everything = sys.argv[1:2] == ["all"]
    names = sorted(path.stem for path in TEMPLATES.glob("*.jinja")) if everything else CHOSEN
    templates = {**{name: (TEMPLATES / f"{name}.jinja").read_text() for name in names}, **OWN}
    golden = []
    for name, template in templates.items():
        cases = {title: record(tokenizer, template, case) for title, case in CASES.items()}
        golden.append({"name": name, "template": template, "cases": {title: case for title, case in cases.items() if case is not None}})
    out = pathlib.Path(sys.argv[2]) if everything else ROOT / "test" / "golden" / "data" / "chat-templates.json"
    out.write_text(json.dumps(golden, ensure_ascii=False, separators=(",", ":")) + "\n")
    print(out, sum(len(entry["cases"]) for entry in golden), "conversations of", len(golden), "templates")
