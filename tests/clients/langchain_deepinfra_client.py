# pyright: basic, reportMissingImports=false, reportUnknownVariableType=false
"""``langchain-deepinfra`` in ``.venv-clients-langchain``; prints what it got as one JSON document.

::

    python langchain_deepinfra_client.py http://127.0.0.1:8000 KEY MODEL
"""

import json
import os
import sys

URL, KEY, MODEL = sys.argv[1:]
os.environ.update(DEEPINFRA_API_TOKEN=KEY, DEEPINFRA_API_BASE=f"{URL}/v1/openai")

from langchain_core.messages import AIMessage, HumanMessage
from langchain_deepinfra import ChatDeepInfra
from langchain_deepinfra.llms import DeepInfra

chat = ChatDeepInfra(model=MODEL, temperature=0)
turns = [HumanMessage("Hello!"), AIMessage("Hi."), HumanMessage("Tell me a joke")]
completions = DeepInfra(
    model=MODEL, base_url=f"{URL}/v1/openai/completions", temperature=0, top_p=1, top_k=0, max_tokens=100
)
print(
    json.dumps(
        {
            "chat": chat.invoke("Hello!").content,
            "chat_turns": chat.invoke(turns).content,
            "chat_stream": "".join(str(chunk.content) for chunk in chat.stream("Hello!")),
            "completion": completions.invoke("[INST] Hello! [/INST]"),
        }
    )
)
