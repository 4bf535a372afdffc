"""Ask a running Wattline server something with the official OpenAI client, and see what the answer cost.

python examples/chat.py "What is a joule?"
"""

import os
import sys

from openai import OpenAI

client = OpenAI(base_url=os.environ.get("OPENAI_BASE_URL", "http://127.0.0.1:8000/v1"), api_key="none")
question = " ".join(sys.argv[1:]) or "What is a joule?"
model = client.models.list().data[0].id

stream = client.chat.completions.create(
    model=model,
    messages=[{"role": "user", "content": question}],
    max_tokens=100,
    stream=True,
    stream_options={"include_usage": True},
)
for chunk in stream:
    if chunk.choices and chunk.choices[0].delta.content:
        print(chunk.choices[0].delta.content, end="", flush=True)
    if not chunk.choices:  # the usage chunk, last
        energy = (chunk.model_extra or {})["energy"]
        kind = "measured" if energy["measured"] else "not measured"
        print(
            f"\n\n{energy['energy_joules']:.2f} J, {energy['joules_per_output_token']:.3f} J per output token", end=""
        )
        print(f" (source: {energy['source']}, {kind})")
