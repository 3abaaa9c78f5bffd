"""Chat templates written from their published rules, for tests. Each has generation markers around assistant turns."""

CHATML = """
{%- if tools %}<|im_start|>system
{% for tool in tools %}{{ tool | tojson }}
{% endfor %}<|im_end|>
{% endif %}
{%- for m in messages %}<|im_start|>{{ m.role }}
{% if m.role == 'assistant' %}{% generation %}{{ m.content }}
{%- for call in m.tool_calls or [] %}
<tool_call>{{ call.function | tojson }}</tool_call>{% endfor %}<|im_end|>{% endgeneration %}
{% else %}{{ m.content }}<|im_end|>
{% endif %}{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant
{% endif %}"""
LLAMA3 = """
{{- bos_token }}<|start_header_id|>system<|end_header_id|>

Today Date: {{ strftime_now('%d %b %Y') }}

{% if messages[0].role == 'system' %}{{ messages[0].content | trim }}{% endif %}
{%- for tool in tools or [] %}
{{ tool | tojson(indent=4) }}{% endfor %}<|eot_id|>
{%- for m in messages if m.role != 'system' %}<|start_header_id|>
{{- 'ipython' if m.role == 'tool' else m.role }}<|end_header_id|>

{% if m.tool_calls %}
{%- if m.tool_calls | length != 1 %}{{ raise_exception('Only single tool calls are supported') }}{% endif %}
{%- set call = m.tool_calls[0].function %}
{%- generation %}{"name": "{{ call.name }}", "parameters": {{ call.arguments | tojson }}}<|eot_id|>{% endgeneration %}
{%- elif m.role == 'assistant' %}{% generation %}{{ m.content | trim }}<|eot_id|>{% endgeneration %}
{%- elif m.role == 'tool' %}{{ m.content | tojson }}<|eot_id|>
{%- else %}{{ m.content | trim }}<|eot_id|>{% endif %}{% endfor %}
{%- if add_generation_prompt %}<|start_header_id|>assistant<|end_header_id|>

{% endif %}"""
MISTRAL = """
{{- bos_token }}{% set ns = namespace(system='') %}
{%- if tools %}[AVAILABLE_TOOLS] {{ tools | tojson }}[/AVAILABLE_TOOLS]{% endif %}
{%- for m in messages %}{% if m.role == 'system' %}{% set ns.system = m.content + '

' %}
{%- elif m.role == 'user' %}[INST] {{ ns.system }}{{ m.content }}[/INST]{% set ns.system = '' %}
{%- elif m.role == 'tool' %}[TOOL_RESULTS] {"content": {{ m.content | tojson }}}[/TOOL_RESULTS]
{%- elif m.tool_calls %}{% generation %}[TOOL_CALLS] [
{%- for call in m.tool_calls %}{{ call.function | tojson }}{{ '' if loop.last else ', ' }}{% endfor %}]</s>
{%- endgeneration %}
{%- else %}{% generation %} {{ m.content }}</s>{% endgeneration %}{% endif %}{% endfor %}"""
GEMMA = """
{{- bos_token }}{% if messages[0].role == 'system' %}{{ raise_exception('System role not supported') }}{% endif %}
{%- for m in messages %}<start_of_turn>{{ 'model' if m.role == 'assistant' else m.role }}
{% if m.role == 'assistant' %}{% generation %}{{ m.content | trim }}<end_of_turn>{% endgeneration %}
{% else %}{{ m.content | trim }}<end_of_turn>
{% endif %}{% endfor %}{% if add_generation_prompt %}<start_of_turn>model
{% endif %}"""
QWEN3 = """
{%- if tools %}<|im_start|>system
<tools>{% for tool in tools %}
{{ tool | tojson }}{% endfor %}
</tools><|im_end|>
{% endif %}
{%- set ns = namespace(query=0) %}
{%- for m in messages %}{% if m.role == 'user' %}{% set ns.query = loop.index0 %}{% endif %}{% endfor %}
{%- for m in messages %}
{%- if m.role == 'tool' %}
{%- if messages[loop.index0 - 1].role != 'tool' %}<|im_start|>user{% endif %}
<tool_response>
{{ m.content }}
</tool_response>
{%- if loop.last or messages[loop.index0 + 1].role != 'tool' %}<|im_end|>
{% endif %}
{%- else %}<|im_start|>{{ m.role }}
{% if m.role == 'assistant' %}{% generation %}
{%- if loop.index0 > ns.query and (loop.last or m.reasoning_content) %}<think>
{{ m.reasoning_content or '' }}
</think>

{% endif %}{{ m.content }}
{%- for call in m.tool_calls or [] %}{{ '\n' if m.content or not loop.first }}<tool_call>
{"name": "{{ call.function.name }}", "arguments": {{ call.function.arguments | tojson }}}
</tool_call>{% endfor %}<|im_end|>{% endgeneration %}
{% else %}{{ m.content }}<|im_end|>
{% endif %}{% endif %}{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant
{% endif %}"""
R1 = """
{{- bos_token }}{% for m in messages %}{% if m.role == 'system' %}{{ m.content }}
{%- elif m.role == 'user' %}<|User|>{{ m.content }}
{%- else %}<|Assistant|>{% generation %}{{ m.content.split('</think>')[-1] }}<|end_of_sentence|>{% endgeneration %}
{%- endif %}{% endfor %}{% if add_generation_prompt %}<|Assistant|><think>
{% endif %}"""
ZEPHYR = """
{%- for m in messages %}<|{{ m.role }}|>
{% if m.role == 'assistant' %}{% generation %}{{ m.content }}</s>{% endgeneration %}
{% else %}{{ m.content }}</s>
{% endif %}{% endfor %}{% if add_generation_prompt %}<|assistant|>
{% endif %}"""
PLAIN = """
{%- for m in messages %}{% if m.role == 'assistant' %}Assistant: {% generation %}{{ m.content }}</s>{% endgeneration %}
{% else %}{{ m.role | capitalize }}: {{ m.content }}
{% endif %}{% endfor %}{% if add_generation_prompt %}Assistant: {% endif %}"""

TEMPLATES = {
    "chatml": (CHATML, "<|im_end|>", ["<|im_start|>"]),
    "llama3": (LLAMA3, "<|eot_id|>", ["<|start_header_id|>", "<|end_header_id|>"]),
    "mistral": (MISTRAL, "</s>", ["[INST]", "[/INST]", "[TOOL_CALLS]", "[TOOL_RESULTS]", "[/TOOL_RESULTS]"]),
    "gemma": (GEMMA, "<end_of_turn>", ["<start_of_turn>"]),
    "qwen3": (QWEN3, "<|im_end|>", ["<|im_start|>"]),
    "r1": (R1, "<|end_of_sentence|>", ["<|User|>", "<|Assistant|>"]),
    "zephyr": (ZEPHYR, "</s>", ["<|user|>", "<|assistant|>", "<|system|>"]),
    "plain": (PLAIN, "</s>", []),
}
"""Template, end-of-sequence token and other special tokens by name."""
WITH_TOOLS = ("chatml", "llama3", "mistral", "qwen3")
WITH_PARALLEL_CALLS = ("chatml", "mistral", "qwen3")
WITH_REASONING = ("qwen3",)
